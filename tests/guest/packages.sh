# Debian's packages as a source of kernels and programs for machines that tests boot: for guest/build
# and kernel/run, which read this. Nothing is installed. What they make of the packages is kept in
# $cache, under a key that changes with the packages' versions and with what makes it.
# shellcheck shell=bash disable=SC2034 # used there

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vdi-hostd-guest

die() {
	echo "${0##*/tests/}: $*" >&2
	exit 1
}

# kernel_of() METAPACKAGE - the package of a kernel that it stands for today
kernel_of() {
	local name
	name=$(apt-cache show --no-all-versions "$1" 2>/dev/null |
		sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p')
	[ -n "$name" ] || die "apt knows no $1: run apt-get update first"
	echo "$name"
}

# cache_lock() - nobody else makes something meanwhile; ends with the process or when 9 is closed
cache_lock() {
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
}

# cache_key() PACKAGE... -- FILE... - for what these files make of these packages
cache_key() {
	local names=()
	while [ "$1" != -- ]; do names+=("$1") && shift; done
	shift
	{
		apt-cache show --no-all-versions "${names[@]}" | grep -E '^(Package|Version|SHA256):'
		cat "$@"
	} | sha256sum | cut -c1-32
}

# extract_packages() FOLDER PACKAGE... - download them and unpack them there
extract_packages() {
	local folder=$1 deb
	shift
	mkdir -p "$folder.deb" "$folder"
	(cd "$folder.deb" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$@") ||
		die "cannot download $*: run apt-get update first"
	for deb in "$folder".deb/*.deb; do
		dpkg -x "$deb" "$folder"
	done
	rm -r "$folder.deb"
}

# copy_modules() ROOT VERSION FOLDER NAME... - kernel modules and what they need, from an unpacked
# kernel; FOLDER/order lists them so that insmod takes them
copy_modules() {
	local root=$1 version=$2 folder=$3 name path dep
	shift 3
	"$root/bin/busybox" depmod -b "$root" "$version"
	mkdir -p "$folder"
	for name in "$@"; do
		path=$(grep -E "/$name\.ko:" "$root/lib/modules/$version/modules.dep" | head -1) ||
			die "kernel $version has no $name"
		# modules.dep lists what must be loaded first last
		for dep in $(echo "${path#*:}" | tr ' ' '\n' | tac) "${path%%:*}"; do
			grep -qx "${dep##*/}" "$folder/order" 2>/dev/null && continue
			cp "$root/lib/modules/$version/${dep#/lib/modules/*/}" "$folder/"
			echo "${dep##*/}" >>"$folder/order"
		done
	done
}

# pack_initramfs() ROOT TREE FILE - with the busybox of ROOT
pack_initramfs() {
	local root=$1 tree=$2 file=$3
	(cd "$tree" && find . | "$root/bin/busybox" cpio -o -H newc -R 0:0 2>/dev/null | gzip -9n) \
		>"$file"
	[ "$(stat -c %s "$file")" -gt 1000000 ] || die "the initramfs came out too small"
}
