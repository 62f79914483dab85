/*
 * In qemu-img's place: does what the first word of its source says, on the descriptors that the
 * privileged half gives it (3 the source, 4 the target).
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "storage/qcow2.h"

#define SOURCE 3
#define TARGET 4

int main(void)
{
	char word[32] = {0};
	struct err err;

	if (pread(SOURCE, word, sizeof(word) - 1, 0) <= 0)
		return 9;
	word[strcspn(word, " \n")] = '\0';
	printf("    (50.00/100%%)\r");
	fflush(stdout);
	if (strcmp(word, "hang") == 0) {
		pause();
	} else if (strcmp(word, "fail") == 0) {
		fputs("qemu-img: it will not do\n", stderr);
		return 1;
	} else if (strcmp(word, "full") == 0) {
		fputs("qemu-img: error while writing: No space left on device\n", stderr);
		return 1;
	} else if (strcmp(word, "garbage") == 0) {
		return write(TARGET, "garbage", 7) != 7;
	} else if (strcmp(word, "backing") == 0) {
		return qcow2_write(TARGET, 1 << 20, "/etc/passwd", "raw", &err) != 0;
	} else if (strcmp(word, "smaller") == 0) {
		return qcow2_write(TARGET, 512, NULL, NULL, &err) != 0;
	} else if (strcmp(word, "good") == 0) {
		return qcow2_write(TARGET, 1 << 20, NULL, NULL, &err) != 0;
	}
	return 8;
}
