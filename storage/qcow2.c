#include "storage/qcow2.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/file.h"

/* the limits that QEMU itself keeps (block/qcow2.h) */
#define CLUSTER_BITS_MIN   9
#define CLUSTER_BITS_MAX   21
#define L1_BYTES_MAX       (UINT64_C(32) << 20)
#define REFTABLE_BYTES_MAX (UINT64_C(8) << 20)
#define REFCOUNT_ORDER_MAX 6
#define SNAPSHOTS_MAX      65536
#define SNAPSHOT_BYTES_MIN 40
#define EXTENSIONS_MAX     64

#define EXT_END            0x00000000u
#define EXT_BACKING_FORMAT 0xe2792acau
#define EXT_DATA_FILE      0x44415441u
#define EXT_ENCRYPTION     0x0537be77u

#define INCOMPATIBLE_KNOWN                                                                         \
	(QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_DATA_FILE | QCOW2_COMPRESSION | QCOW2_EXTENDED_L2)

/* as it stands in the file, big-endian; version 2 ends after snapshots_offset */
struct raw_header {
	uint32_t magic, version;
	uint64_t backing_offset;
	uint32_t backing_size, cluster_bits;
	uint64_t virtual_size;
	uint32_t encryption, l1_entries;
	uint64_t l1_offset, reftable_offset;
	uint32_t reftable_clusters, snapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order, header_length;
	uint8_t compression, padding[7];
};

#define V2_LENGTH offsetof(struct raw_header, incompatible)
#define V3_LENGTH offsetof(struct raw_header, compression)
_Static_assert(V2_LENGTH == 72 && V3_LENGTH == 104 && sizeof(struct raw_header) == 112,
	       "the header is not laid out as in the file");

struct raw_extension {
	uint32_t type, length;
};

/* what the checks work on */
struct reading {
	int fd;
	uint64_t file_size;
	uint64_t backing_offset;
	uint32_t backing_size;
	struct qcow2_header *header;
};

static int corrupt(struct err *err, const char *what)
{
	return err_set(err, ERR_CORRUPT, "the qcow2 image is corrupt: %s", what);
}

static int read_fields(struct reading *r, struct err *err)
{
	struct qcow2_header *h = r->header;
	struct raw_header raw = {0};

	if (r->file_size < V2_LENGTH)
		return err_set(err, ERR_CORRUPT,
			       "the qcow2 image is truncated: it ends inside its header");
	size_t have = r->file_size < sizeof(raw) ? (size_t)r->file_size : sizeof(raw);
	if (storage_pread(r->fd, &raw, have, 0, err) < 0)
		return -1;
	if (be32toh(raw.magic) != QCOW2_MAGIC)
		return err_set(err, ERR_UNSUPPORTED,
			       "this is no qcow2 image: its magic is missing");
	h->version = be32toh(raw.version);
	if (h->version != 2 && h->version != 3)
		return err_set(err, ERR_UNSUPPORTED,
			       "qcow version %u is not supported, only 2 and 3 are", h->version);
	if (be32toh(raw.encryption) != 0)
		return err_set(err, ERR_UNSUPPORTED,
			       "the qcow2 image is encrypted (method %u); decrypt it first",
			       be32toh(raw.encryption));
	r->backing_offset = be64toh(raw.backing_offset);
	r->backing_size = be32toh(raw.backing_size);
	h->cluster_bits = be32toh(raw.cluster_bits);
	h->virtual_size = be64toh(raw.virtual_size);
	h->l1_entries = be32toh(raw.l1_entries);
	h->l1_offset = be64toh(raw.l1_offset);
	h->reftable_offset = be64toh(raw.reftable_offset);
	h->reftable_clusters = be32toh(raw.reftable_clusters);
	h->snapshots = be32toh(raw.snapshots);
	h->snapshots_offset = be64toh(raw.snapshots_offset);
	h->refcount_order = 4;
	h->header_length = V2_LENGTH;
	if (h->version == 2)
		return 0;
	if (have < V3_LENGTH)
		return err_set(err, ERR_CORRUPT,
			       "the qcow2 image is truncated: it ends inside its header");
	h->incompatible = be64toh(raw.incompatible);
	h->compatible = be64toh(raw.compatible);
	h->autoclear = be64toh(raw.autoclear);
	h->refcount_order = be32toh(raw.refcount_order);
	h->header_length = be32toh(raw.header_length);
	if (h->header_length > V3_LENGTH)
		h->compression = raw.compression;
	return 0;
}

static int check_features(const struct qcow2_header *h, struct err *err)
{
	if (h->incompatible & ~INCOMPATIBLE_KNOWN)
		return err_set(err, ERR_UNSUPPORTED,
			       "the qcow2 image needs unknown incompatible features (bits %#llx)",
			       (unsigned long long)(h->incompatible & ~INCOMPATIBLE_KNOWN));
	if (h->incompatible & QCOW2_DATA_FILE)
		return err_set(err, ERR_UNSUPPORTED,
			       "the qcow2 image keeps its data in an external data file; "
			       "convert it to a file of its own first");
	if (h->incompatible & QCOW2_CORRUPT)
		return corrupt(err,
			       "it is marked as corrupt; repair it with qemu-img check -r all");
	if (!!(h->incompatible & QCOW2_COMPRESSION) != (h->compression != 0))
		return corrupt(err, "compression type and feature bit disagree");
	if (h->compression > 1)
		return err_set(err, ERR_UNSUPPORTED,
			       "the qcow2 image has an unknown compression type (%u)",
			       h->compression);
	return 0;
}

static int check_sizes(const struct qcow2_header *h, struct err *err)
{
	if (h->cluster_bits < CLUSTER_BITS_MIN || h->cluster_bits > CLUSTER_BITS_MAX)
		return corrupt(err, "cluster size out of range");
	if ((h->incompatible & QCOW2_EXTENDED_L2) && h->cluster_bits < 14)
		return corrupt(err, "cluster size out of range");
	if (h->version == 3 && (h->header_length < V3_LENGTH || h->header_length % 8 != 0 ||
				h->header_length > UINT64_C(1) << h->cluster_bits))
		return corrupt(err, "header length out of range");
	if (h->refcount_order > REFCOUNT_ORDER_MAX)
		return corrupt(err, "refcount width out of range");
	if (h->virtual_size > STORAGE_VIRTUAL_SIZE_MAX)
		return err_set(err, ERR_LIMIT,
			       "the virtual size of the image (%llu bytes) is over the limit of "
			       "%llu bytes",
			       (unsigned long long)h->virtual_size,
			       (unsigned long long)STORAGE_VIRTUAL_SIZE_MAX);
	return 0;
}

/* a table has to lie on a cluster, behind the header and inside the file */
static int check_table(const struct reading *r, uint64_t offset, uint64_t bytes, const char *name,
		       struct err *err)
{
	uint64_t cluster = UINT64_C(1) << r->header->cluster_bits;

	if (offset < cluster || offset % cluster != 0)
		return err_set(err, ERR_CORRUPT,
			       "the qcow2 image is corrupt: the %s is not at a cluster of its own",
			       name);
	if (offset > r->file_size || bytes > r->file_size - offset)
		return err_set(
			err, ERR_CORRUPT,
			"the qcow2 image is truncated or corrupt: the %s lies past the end of "
			"the file",
			name);
	return 0;
}

static int check_tables(const struct reading *r, unsigned int flags, struct err *err)
{
	const struct qcow2_header *h = r->header;
	unsigned int entry_bits = h->incompatible & QCOW2_EXTENDED_L2 ? 4 : 3;
	unsigned int l1_shift = h->cluster_bits + h->cluster_bits - entry_bits;
	uint64_t l1_needed = (h->virtual_size + (UINT64_C(1) << l1_shift) - 1) >> l1_shift;
	uint64_t l1_bytes = (uint64_t)h->l1_entries * 8;
	uint64_t reftable_bytes = (uint64_t)h->reftable_clusters << h->cluster_bits;

	if (l1_bytes > L1_BYTES_MAX)
		return corrupt(err, "the L1 table is too large");
	if (h->l1_entries < l1_needed)
		return corrupt(err, "the L1 table is too small for the virtual size");
	if (l1_bytes > 0 && check_table(r, h->l1_offset, l1_bytes, "L1 table", err) < 0)
		return -1;
	if (reftable_bytes == 0)
		return corrupt(err, "it has no refcount table");
	if (reftable_bytes > REFTABLE_BYTES_MAX)
		return corrupt(err, "the refcount table is too large");
	if (check_table(r, h->reftable_offset, reftable_bytes, "refcount table", err) < 0)
		return -1;
	if (h->snapshots == 0)
		return 0;
	if (!(flags & QCOW2_ALLOW_SNAPSHOTS))
		return err_set(err, ERR_UNSUPPORTED, "the qcow2 image has internal snapshots");
	if (h->snapshots > SNAPSHOTS_MAX)
		return corrupt(err, "too many snapshots");
	return check_table(r, h->snapshots_offset, (uint64_t)h->snapshots * SNAPSHOT_BYTES_MIN,
			   "snapshot table", err);
}

static int read_extension(struct reading *r, uint32_t type, uint32_t length, uint64_t at,
			  struct err *err)
{
	struct qcow2_header *h = r->header;

	switch (type) {
	case EXT_DATA_FILE:
		return err_set(
			err, ERR_UNSUPPORTED,
			"the qcow2 image names an external data file; convert it to a file of "
			"its own first");
	case EXT_ENCRYPTION:
		return err_set(err, ERR_UNSUPPORTED,
			       "the qcow2 image is encrypted (LUKS header); decrypt it first");
	case EXT_BACKING_FORMAT:
		if (length >= sizeof(h->backing_format))
			return corrupt(err, "the name of its backing format is too long");
		memset(h->backing_format, 0, sizeof(h->backing_format));
		if (storage_pread(r->fd, h->backing_format, length, at, err) < 0)
			return -1;
		if (strlen(h->backing_format) != length)
			return corrupt(err, "the name of its backing format holds a NUL");
		return 0;
	default:
		return 0; /* the format says: not known is ignored */
	}
}

static int read_extensions(struct reading *r, struct err *err)
{
	uint64_t at = r->header->header_length;
	uint64_t end = UINT64_C(1) << r->header->cluster_bits;

	if (r->backing_offset != 0 && r->backing_offset < end)
		end = r->backing_offset;
	for (int n = 0; at + sizeof(struct raw_extension) <= end; n++) {
		struct raw_extension raw = {0};
		if (n == EXTENSIONS_MAX)
			return corrupt(err, "it has too many header extensions");
		/* the first cluster of a small image need not be there in full */
		if (at + sizeof(raw) > r->file_size)
			break;
		if (storage_pread(r->fd, &raw, sizeof(raw), at, err) < 0)
			return -1;
		uint32_t type = be32toh(raw.type), length = be32toh(raw.length);
		if (type == EXT_END)
			break;
		at += sizeof(raw);
		if (length > end - at)
			return corrupt(err, "a header extension does not fit into the header");
		if (read_extension(r, type, length, at, err) < 0)
			return -1;
		at += ((uint64_t)length + 7) & ~UINT64_C(7);
	}
	return 0;
}

/* a name from a stranger, for a message: no control characters */
static void show_name(const char *name, char *ret, size_t size)
{
	size_t len = strnlen(name, size - 1);

	memcpy(ret, name, len);
	ret[len] = '\0';
	for (char *c = ret; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

static int read_backing(struct reading *r, unsigned int flags, struct err *err)
{
	struct qcow2_header *h = r->header;
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;

	if (r->backing_offset == 0) {
		h->backing_format[0] = '\0';
		return 0;
	}
	if (r->backing_offset < h->header_length || r->backing_offset > cluster ||
	    r->backing_size > QCOW2_BACKING_NAME_MAX || r->backing_size == 0 ||
	    r->backing_size > cluster - r->backing_offset)
		return corrupt(err, "the name of its backing file is out of bounds");
	if (storage_pread(r->fd, h->backing_name, r->backing_size, r->backing_offset, err) < 0)
		return -1;
	h->backing_name[r->backing_size] = '\0';
	if (strlen(h->backing_name) != r->backing_size)
		return corrupt(err, "the name of its backing file holds a NUL");
	if (flags & QCOW2_ALLOW_BACKING)
		return 0;
	char shown[100];
	show_name(h->backing_name, shown, sizeof(shown));
	return err_set(err, ERR_UNSUPPORTED,
		       "the qcow2 image needs a backing file (%s); flatten it first with qemu-img "
		       "convert",
		       shown);
}

int qcow2_read(int fd, unsigned int flags, struct qcow2_header *ret, struct err *err)
{
	struct qcow2_header h = {0};
	struct reading r = {.fd = fd, .header = &h};

	if (storage_file_size(fd, &r.file_size, err) < 0 || read_fields(&r, err) < 0 ||
	    check_features(&h, err) < 0 || check_sizes(&h, err) < 0 ||
	    read_extensions(&r, err) < 0 || read_backing(&r, flags, err) < 0 ||
	    check_tables(&r, flags, err) < 0)
		return -1;
	*ret = h;
	return 0;
}
