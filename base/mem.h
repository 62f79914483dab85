/*
 * Memory and ownership. Sizes are bounded where bytes come in, so an allocation that fails here
 * means that the host is out of memory: the process ends and is started again, and the desktops,
 * which are no part of it, go on.
 */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/** DEFINE_FREEP() - x_freep() for _cleanup_() out of x_free() */
#define DEFINE_FREEP(type, func)                                                                   \
	static inline void func##p(type **p)                                                       \
	{                                                                                          \
		if (*p)                                                                            \
			func(*p);                                                                  \
	}                                                                                          \
	struct mem_eat_semicolon

static inline void mem_freep(void *p)
{
	free(*(void **)p);
}

static inline void mem_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/** mem_close_all() - the first @n descriptors of @fds, which are open */
static inline void mem_close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

#define _cleanup_free_  _cleanup_(mem_freep)
#define _cleanup_close_ _cleanup_(mem_closep)

/** TAKE_PTR() - the pointer's value, leaving NULL behind: ownership moves on */
#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) take_ = (p);                                                         \
		(p) = NULL;                                                                        \
		take_;                                                                             \
	})

/** TAKE_FD() - the descriptor, leaving -1 behind: ownership moves on */
#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int take_ = (fd);                                                                  \
		(fd) = -1;                                                                         \
		take_;                                                                             \
	})

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/** container_of() - the structure that holds `member` at `ptr` */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Never NULL: these end the process when the host is out of memory. The caller frees. */
void *mem_calloc(size_t n, size_t size);
void *mem_realloc(void *p, size_t n, size_t size);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define mem_new(type) ((type *)mem_calloc(1, sizeof(type)))

#if defined(JANSSON_H)
static inline void mem_json_decrefp(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ _cleanup_(mem_json_decrefp)
#endif
