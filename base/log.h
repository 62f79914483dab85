/*
 * The log: lines on stderr, with <N> priorities when the journal reads them. Only programs log
 * (api, reconcile, main, the privileged half); libraries return errors.
 */
#pragma once

enum log_level { LOG_LEVEL_ERR = 3, LOG_LEVEL_WARN = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/** log_open() - set the least level shown and the word before each line; call once at start */
void log_open(const char *program, enum log_level least);

/** log_write() - one line; control characters in it are shown as \xNN, so that no peer forges lines
 */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...)   log_write(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
