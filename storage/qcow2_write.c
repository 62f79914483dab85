#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "storage/file.h"
#include "storage/qcow2.h"

/*
 * The file: one cluster each of header, refcount table and refcount block, then the L1 table, which
 * is all zeros and therefore a hole. 64 KiB is what QEMU's own caches are tuned for.
 */
#define CLUSTER_BITS  16
#define CLUSTER       (1u << CLUSTER_BITS)
#define HEADER_LENGTH 112
#define L2_ENTRIES    (CLUSTER / 8)

struct writing {
	unsigned char bytes[2048];
	size_t at;
};

static void put32(struct writing *w, uint32_t value)
{
	value = htobe32(value);
	memcpy(w->bytes + w->at, &value, sizeof(value));
	w->at += sizeof(value);
}

static void put64(struct writing *w, uint64_t value)
{
	value = htobe64(value);
	memcpy(w->bytes + w->at, &value, sizeof(value));
	w->at += sizeof(value);
}

static void put_text(struct writing *w, const char *text, size_t len)
{
	memcpy(w->bytes + w->at, text, len);
	w->at += (len + 7) & ~(size_t)7;
}

static void put_header(struct writing *w, uint64_t virtual_size, uint32_t l1_entries,
		       const char *name, const char *format)
{
	size_t format_len = format ? strlen(format) : 0;
	size_t name_at = HEADER_LENGTH + 8 + ((format_len + 7) & ~(size_t)7) + 8;

	put32(w, QCOW2_MAGIC);
	put32(w, 3);
	put64(w, name ? name_at : 0);
	put32(w, name ? (uint32_t)strlen(name) : 0);
	put32(w, CLUSTER_BITS);
	put64(w, virtual_size);
	put32(w, 0); /* no encryption */
	put32(w, l1_entries);
	put64(w, 3 * CLUSTER); /* L1 table */
	put64(w, CLUSTER);     /* refcount table */
	put32(w, 1);
	put32(w, 0); /* no snapshots */
	put64(w, 0);
	put64(w, 0); /* features: incompatible, compatible, autoclear */
	put64(w, 0);
	put64(w, 0);
	put32(w, 4); /* refcounts of 16 bits */
	put32(w, HEADER_LENGTH);
	put64(w, 0); /* zlib, padding */
	if (!name)
		return;
	put32(w, 0xe2792aca); /* backing format */
	put32(w, (uint32_t)format_len);
	put_text(w, format, format_len);
	put64(w, 0); /* end of extensions */
	put_text(w, name, strlen(name));
}

int qcow2_write(int fd, uint64_t virtual_size, const char *backing_name, const char *backing_format,
		struct err *err)
{
	struct writing header = {0}, refs = {0}, table = {0};
	uint64_t per_l1 = (uint64_t)L2_ENTRIES << CLUSTER_BITS;

	if (virtual_size == 0 || virtual_size % 512 != 0)
		return err_set_field(err, "size", "a disk's size must be a multiple of 512 bytes");
	if (virtual_size > STORAGE_VIRTUAL_SIZE_MAX)
		return err_set(err, ERR_LIMIT, "a disk of %llu bytes is over the limit of %llu",
			       (unsigned long long)virtual_size,
			       (unsigned long long)STORAGE_VIRTUAL_SIZE_MAX);
	if (!backing_name != !backing_format ||
	    (backing_name && (backing_name[0] == '\0' || strlen(backing_format) > 15 ||
			      strlen(backing_name) > QCOW2_BACKING_NAME_MAX)))
		return err_set(err, ERR_INVALID,
			       "a backing file's name or format is out of bounds");

	uint32_t l1_entries = (uint32_t)((virtual_size + per_l1 - 1) / per_l1);
	uint32_t l1_clusters = (l1_entries * 8 + CLUSTER - 1) / CLUSTER;
	put_header(&header, virtual_size, l1_entries, backing_name, backing_format);
	put64(&table, 2 * CLUSTER);
	for (uint32_t i = 0; i < 3 + l1_clusters; i++) {
		refs.bytes[refs.at + 1] = 1;
		refs.at += 2;
	}
	if (ftruncate(fd, (off_t)(3 + l1_clusters) * CLUSTER) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot make the file");
	if (storage_pwrite(fd, table.bytes, table.at, CLUSTER, err) < 0 ||
	    storage_pwrite(fd, refs.bytes, refs.at, 2 * CLUSTER, err) < 0 ||
	    storage_pwrite(fd, header.bytes, header.at, 0, err) < 0)
		return -1;
	return 0;
}
