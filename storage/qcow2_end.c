#include <endian.h>
#include <stdbool.h>

#include "base/mem.h"
#include "storage/file.h"
#include "storage/qcow2.h"

#define PIECE (64 * 1024)

/*
 * The last byte that is not zero in a part of the file, read from its end.
 * Return: 1 found, 0 all zero, -1 failed
 */
static int find_last(int fd, uint64_t offset, uint64_t size, uint64_t *ret_at, struct err *err)
{
	_cleanup_free_ unsigned char *bytes = mem_calloc(1, PIECE);

	while (size > 0) {
		size_t n = size < PIECE ? (size_t)size : (size_t)PIECE;
		if (storage_pread(fd, bytes, n, offset + size - n, err) < 0)
			return -1;
		for (size_t i = n; i > 0; i--) {
			if (bytes[i - 1] == 0)
				continue;
			*ret_at = size - n + i - 1;
			return 1;
		}
		size -= n;
	}
	return 0;
}

/* the highest cluster with a refcount, or a little less: a byte may hold the counts of several */
static int find_last_cluster(int fd, const struct qcow2_header *h, uint64_t block,
			     uint64_t block_index, uint64_t *ret, struct err *err)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits, at;
	uint64_t bits = UINT64_C(1) << h->refcount_order;
	int found = find_last(fd, block, cluster, &at, err);

	if (found > 0)
		*ret = block_index * (cluster * 8 / bits) + at * 8 / bits;
	return found;
}

int qcow2_check_end(int fd, const struct qcow2_header *h, struct err *err)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	uint64_t file_size, at, entry, last;

	if (h->incompatible & QCOW2_DIRTY)
		return 0;
	if (storage_file_size(fd, &file_size, err) < 0)
		return -1;
	int found = find_last(fd, h->reftable_offset,
			      (uint64_t)h->reftable_clusters << h->cluster_bits, &at, err);
	if (found <= 0)
		return found;
	uint64_t block_index = at / sizeof(entry);
	if (storage_pread(fd, &entry, sizeof(entry),
			  h->reftable_offset + block_index * sizeof(entry), err) < 0)
		return -1;
	uint64_t block = be64toh(entry);
	if (block % cluster != 0 || block < cluster || block >= file_size ||
	    cluster > file_size - block)
		return err_set(err, ERR_CORRUPT,
			       "the qcow2 image is truncated or corrupt: its last refcount block "
			       "lies past the end of the file");
	found = find_last_cluster(fd, h, block, block_index, &last, err);
	if (found <= 0)
		return found;
	if (last > (file_size - 1) >> h->cluster_bits)
		return err_set(err, ERR_CORRUPT,
			       "the qcow2 image is truncated: it ends at byte %llu and has data up "
			       "to byte %llu or more",
			       (unsigned long long)file_size,
			       (unsigned long long)(last << h->cluster_bits));
	return 0;
}
