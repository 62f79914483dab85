/*
 * The frame of each table: hooks, sets and maps, which networks, NICs and groups only add elements
 * and chains to. Repeating it changes nothing, and mends it where somebody has been at it.
 */
#include "netcfg/nft.h"

#define I "inet " NFT_TABLE
#define B "bridge " NFT_TABLE

/* An endpoint that is forwarded, and where to. */
#define FORWARD_MAP(name, from, to)                                                                \
	"add map " I " " name " { type " from " : " to " . inet_service; }\n"

/*
 * A packet between two ports of one bridge passes the forward hook as well where br_netfilter is
 * loaded; each network's chain lets it through. A packet that the host got from a tap itself came
 * past the bridge, and so past the checks there.
 */
static const char inet_frame[] =
	"add table " I "\n"
	"add set " I " bridges { type ifname; }\n"
	"add set " I " nics { type ifname; }\n"
	"add map " I " input { type ifname : verdict; }\n"
	"add map " I " forward_from { type ifname : verdict; }\n"
	"add map " I " forward_to { type ifname : verdict; }\n"
	"add map " I " source { type ifname : verdict; }\n"
	"add map " I " source_to { type ifname : verdict; }\n"
	"add set " I " begins { type ether_addr; size 65536; flags dynamic,timeout; timeout 1h; }\n"
	"add set " I " asks { type ether_addr; size 65536; flags dynamic,timeout; timeout 1h; }\n"
	"add set " I " held { type ether_addr; size 65536; flags dynamic; }\n"
	"add set " I " asks-held { type ether_addr; size 65536; flags dynamic; }\n"
	"add set " I " drops { type ether_addr . mark; size 65536; flags dynamic; counter; }\n"
	/* clang-format off */
	FORWARD_MAP("redirect4", "ipv4_addr . inet_proto . inet_service", "ipv4_addr")
	FORWARD_MAP("redirect6", "ipv6_addr . inet_proto . inet_service", "ipv6_addr")
	FORWARD_MAP("redirect4-any", "inet_proto . inet_service", "ipv4_addr")
	FORWARD_MAP("redirect6-any", "inet_proto . inet_service", "ipv6_addr")
	/* clang-format on */
	"add chain " I " input { type filter hook input priority filter; policy accept; }\n"
	"add chain " I " forward { type filter hook forward priority filter; policy accept; }\n"
	"add chain " I " source { type nat hook postrouting priority srcnat; policy accept; }\n"
	"add chain " I " forwards { type nat hook prerouting priority dstnat; policy accept; }\n"
	"add chain " I " forwards-own { type nat hook output priority -100; policy accept; }\n"
	"add chain " I " forwards-all\n"
	"add chain " I " begin\n"
	"add chain " I " ask\n"
	"add chain " I " ask-tcp\n"
	"add chain " I " drop-flood\n"
	"add chain " I " drop-detour\n"
	"add chain " I " dropped\n"
	"flush chain " I " begin\n"
	"flush chain " I " ask\n"
	"flush chain " I " ask-tcp\n"
	"flush chain " I " drop-flood\n"
	"flush chain " I " drop-detour\n"
	"flush chain " I " dropped\n"
	"flush chain " I " input\n"
	"flush chain " I " forward\n"
	"flush chain " I " source\n"
	"flush chain " I " forwards\n"
	"flush chain " I " forwards-own\n"
	"flush chain " I " forwards-all\n"
	/*
	 * A connection that is new to the host's connection tracking, which all guests share: the
	 * first packet of it, for as long as nobody answers the next ones are "new" as well.
	 */
	"add rule " I " begin ct status confirmed return\n"
	"add rule " I " begin update @begins { ether saddr limit rate over 100/second "
	"burst 2000 packets } goto drop-flood\n"
	"add rule " I " begin add @held { ether saddr ct count over 4096 } goto drop-flood\n"
	/* names, also by way of one connection: those who answer have a bounded number in hand */
	"add rule " I " ask update @asks { ether saddr limit rate over 100/second "
	"burst 1000 packets } goto drop-flood\n"
	/* dnsmasq has a process for each, and for 20 at most */
	"add rule " I " ask-tcp ct status confirmed return\n"
	"add rule " I " ask-tcp add @asks-held { ether saddr ct count over 4 } goto drop-flood\n"
	/* the numbers are enum netcfg_drop's */
	"add rule " I " drop-flood meta mark set 14 goto dropped\n"
	"add rule " I " drop-detour meta mark set 15 goto dropped\n"
	"add rule " I " dropped update @drops { ether saddr . meta mark }\n"
	"add rule " I " dropped drop\n"
	"add rule " I " input iifname @nics drop\n"
	"add rule " I " input iifname vmap @input\n"
	"add rule " I " forward iifname @nics drop\n"
	"add rule " I " forward iifname vmap @forward_from\n"
	"add rule " I " forward oifname vmap @forward_to\n"
	"add rule " I " source iifname vmap @source\n"
	"add rule " I " source oifname vmap @source_to\n"
	"add rule " I " forwards meta l4proto { tcp, udp } jump forwards-all\n"
	"add rule " I " forwards-own meta l4proto { tcp, udp } jump forwards-all\n"
	"add rule " I " forwards-all meta l4proto { tcp, udp } "
	"dnat ip to ip daddr . meta l4proto . th dport map @redirect4\n"
	"add rule " I " forwards-all meta l4proto { tcp, udp } "
	"dnat ip6 to ip6 daddr . meta l4proto . th dport map @redirect6\n"
	"add rule " I " forwards-all ip daddr 127.0.0.0/8 return\n"
	"add rule " I " forwards-all ip6 daddr ::1 return\n"
	"add rule " I " forwards-all fib daddr type != local return\n"
	"add rule " I " forwards-all meta nfproto ipv4 meta l4proto { tcp, udp } "
	"dnat ip to meta l4proto . th dport map @redirect4-any\n"
	"add rule " I " forwards-all meta nfproto ipv6 meta l4proto { tcp, udp } "
	"dnat ip6 to meta l4proto . th dport map @redirect6-any\n";

/* ---- what NICs may send ---- */

#define DROP_CHAIN(name)                                                                           \
	"add chain " B " drop-" name "\n"                                                          \
	"flush chain " B " drop-" name "\n"

/* the number is enum netcfg_drop's; the packet is on its way out, so its mark is free */
#define DROP_RULES(name, number, way)                                                              \
	"add rule " B " drop-" name " meta mark set " number " goto dropped-" way "\n"

#define CHAIN(name)                                                                                \
	"add chain " B " " name "\n"                                                               \
	"flush chain " B " " name "\n"

/* type and length of a link-layer address option (RFC 4861 4.6.1), and whose address it has */
#define SLLA_IS_OWN(type_at, address_at) "@th," type_at ",16 0x0101 iifname . @th," address_at
#define TLLA_IS_OWN(type_at, address_at) "@th," type_at ",16 0x0201 iifname . @th," address_at

/* the target's identifier is the NIC's, and its first byte one of 2000::/3 or fc00::/7 */
#define TARGET_IS_OWN_HOST "iifname . @th,128,64 @hosts6 @th,64,8 { 0x20-0x3f, 0xfc-0xfd }"

static const char bridge_sets[] =
	"add table " B "\n"
	"add set " B " nics { type ifname; }\n"
	"add set " B " any { type ifname; }\n"
	"add set " B " macs { type ifname . ether_addr; }\n"
	"add set " B " options { typeof iifname . @th,80,48; }\n"
	"add set " B " source4 { type ifname . ether_addr . ipv4_addr; }\n"
	"add set " B " source6 { type ifname . ether_addr . ipv6_addr; }\n"
	"add set " B " targets { typeof iifname . @th,64,128; }\n"
	"add set " B " hosts6 { typeof iifname . @nh,128,64; }\n"
	"add set " B " hears { typeof iifname . @th,288,48; }\n"
	"add set " B " hearing { type ifname; }\n"
	"add set " B " answers { type ifname; size 65536; flags dynamic,timeout; timeout 1h; }\n"
	"add set " B " pieces { type ifname; size 65536; flags dynamic,timeout; timeout 1h; }\n"
	"add set " B
	" piece-bytes { type ifname; size 65536; flags dynamic,timeout; timeout 1h; }\n"
	"add set " B " drops { type ifname . mark; size 65536; flags dynamic; counter; }\n";

/* clang-format off */
static const char bridge_chains[] =
	DROP_CHAIN("mac") DROP_CHAIN("vlan") DROP_CHAIN("ethertype") DROP_CHAIN("arp")
	DROP_CHAIN("ipv4") DROP_CHAIN("ipv6") DROP_CHAIN("dhcp") DROP_CHAIN("ra") DROP_CHAIN("nd")
	DROP_CHAIN("group-out") DROP_CHAIN("group-in") DROP_CHAIN("flood-out") DROP_CHAIN("flood-in")
	CHAIN("dropped-from") CHAIN("dropped-to") CHAIN("from") CHAIN("from-arp") CHAIN("from-ipv4") CHAIN("to-dhcp")
	CHAIN("from-ipv4-own") CHAIN("from-ipv6") CHAIN("from-ipv6-own") CHAIN("from-icmpv6") CHAIN("solicit") CHAIN("advert")
	CHAIN("advert-own") CHAIN("router-solicit") CHAIN("piece") CHAIN("out4") CHAIN("out6") CHAIN("in4") CHAIN("in6")
	/* what is in it is the networks', and stays: hearing.c */
	"add chain " B " hear\n";

/* In this order each is only seen by packets that passed the ones before. */
static const char bridge_rules[] =
	DROP_RULES("mac", "1", "from") DROP_RULES("vlan", "2", "from")
	DROP_RULES("ethertype", "3", "from") DROP_RULES("arp", "4", "from")
	DROP_RULES("ipv4", "5", "from") DROP_RULES("ipv6", "6", "from")
	DROP_RULES("dhcp", "7", "from") DROP_RULES("ra", "8", "from") DROP_RULES("nd", "9", "from")
	DROP_RULES("group-out", "10", "from") DROP_RULES("group-in", "11", "to")
	DROP_RULES("flood-out", "12", "from") DROP_RULES("flood-in", "13", "to")
	"add rule " B " dropped-from update @drops { iifname . meta mark }\n"
	"add rule " B " dropped-from drop\n"
	"add rule " B " dropped-to update @drops { oifname . meta mark }\n"
	"add rule " B " dropped-to drop\n"

	"add rule " B " from iifname . ether saddr != @macs goto drop-mac\n"
	"add rule " B " from ether type vmap { ip : goto from-ipv4, arp : goto from-arp, ip6 : goto from-ipv6, "
	"8021q : goto drop-vlan, 8021ad : goto drop-vlan }\n"
	"add rule " B " from goto drop-ethertype\n"

	"add rule " B " from-arp arp htype != 1 goto drop-arp\n"
	"add rule " B " from-arp arp ptype != ip goto drop-arp\n"
	"add rule " B " from-arp arp hlen != 6 goto drop-arp\n"
	"add rule " B " from-arp arp plen != 4 goto drop-arp\n"
	"add rule " B " from-arp iifname . arp saddr ether . arp saddr ip @source4 accept\n"
	/* a probe (RFC 5227) */
	"add rule " B " from-arp arp operation request arp saddr ip 0.0.0.0 "
	"iifname . arp saddr ether @macs accept\n"
	"add rule " B " from-arp iifname @any iifname . arp saddr ether @macs accept\n"
	"add rule " B " from-arp goto drop-arp\n"

	"add rule " B " from-ipv4 udp dport 67 jump to-dhcp\n"
	"add rule " B " from-ipv4 ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 "
	"udp dport 67 ip frag-off & 0x3fff == 0 accept\n"
	/* from one that nobody has heard of, but which the server may yet confirm (REBINDING) */
	"add rule " B " from-ipv4 iifname . @th,288,48 @hears ip daddr 255.255.255.255 udp sport 68 "
	"udp dport 67 ip frag-off & 0x3fff == 0 accept\n"
	"add rule " B " from-ipv4 iifname @any goto from-ipv4-own\n"
	"add rule " B " from-ipv4 goto drop-ipv4\n"
	"add rule " B " from-ipv4-own udp dport 67 jump to-dhcp\n"
	"add rule " B " from-ipv4-own udp sport 67 goto drop-dhcp\n"
	/* who asks for listeners decides what the bridge sends to whom */
	"add rule " B " from-ipv4-own igmp type membership-query goto drop-ra\n"
	"add rule " B " from-ipv4-own ip frag-off & 0x3fff != 0 jump piece\n"
	"add rule " B " from-ipv4-own iifname @grouped goto out4\n"
	"add rule " B " from-ipv4-own accept\n"

	/* whose MAC it is that asks a DHCP server, and no relay; a piece without that goes as well */
	"add rule " B " to-dhcp @th,256,32 0 iifname . @th,288,48 @options return\n"
	"add rule " B " to-dhcp goto drop-dhcp\n"

	"add rule " B " from-ipv6 meta l4proto ipv6-icmp jump from-icmpv6\n"
	"add rule " B " from-ipv6 iifname . ether saddr . ip6 saddr @source6 goto from-ipv6-own\n"
	"add rule " B " from-ipv6 iifname . @nh,128,64 @hosts6 ip6 saddr { 2000::/3, fc00::/7 } "
	"goto from-ipv6-own\n"
	"add rule " B " from-ipv6 iifname @any goto from-ipv6-own\n"
	"add rule " B " from-ipv6 goto drop-ipv6\n"
	"add rule " B " from-ipv6-own udp sport 547 goto drop-dhcp\n"
	/* what has no extension headers needs no looking through */
	"add rule " B " from-ipv6-own ip6 nexthdr != tcp ip6 nexthdr != udp exthdr frag exists "
	"jump piece\n"
	"add rule " B " from-ipv6-own iifname @grouped goto out6\n"
	"add rule " B " from-ipv6-own accept\n"

	"add rule " B " from-icmpv6 icmpv6 type vmap { nd-router-advert : goto drop-ra, "
	"nd-redirect : goto drop-ra, mld-listener-query : goto drop-ra, "
	"nd-router-solicit : goto router-solicit, "
	"nd-neighbor-solicit : goto solicit, nd-neighbor-advert : goto advert }\n"
	/* a host that has no address yet reports what it listens to all the same (RFC 3810 5.2.13) */
	"add rule " B " from-icmpv6 ip6 saddr :: icmpv6 type mld2-listener-report "
	"exthdr frag missing accept\n"
	/* it has a type and is none of the above */
	"add rule " B " from-icmpv6 icmpv6 type != nd-router-advert return\n"
	/* or is the rest of a packet whose beginning was looked at */
	"add rule " B " from-icmpv6 frag frag-off != 0 return\n"
	"add rule " B " from-icmpv6 goto drop-nd\n"

	/*
	 * Pieces of packets are kept by the host until the last is there, in memory that all share.
	 * Small ones cost more than their bytes, large ones may be of 64 KiB: two buckets.
	 */
	"add rule " B " piece update @pieces { iifname limit rate over 200/second "
	"burst 2000 packets } goto drop-flood-out\n"
	"add rule " B " piece update @piece-bytes { iifname limit rate over 300 kbytes/second "
	"burst 3 mbytes } goto drop-flood-out\n"

	/*
	 * Neighbour discovery has no extension headers (and fragments of it are not heard: RFC
	 * 6980). Only the option that says whose link-layer address it is may be there, alone:
	 * behind others it could not be found.
	 */
	"add rule " B " solicit ip6 nexthdr != ipv6-icmp goto drop-nd\n"
	"add rule " B " solicit ip6 saddr :: iifname . @th,64,128 @targets accept\n"
	"add rule " B " solicit ip6 saddr :: " TARGET_IS_OWN_HOST " accept\n"
	"add rule " B " solicit ip6 saddr :: iifname @any accept\n"
	"add rule " B " solicit ip6 length 24 return\n"
	"add rule " B " solicit ip6 length 32 " SLLA_IS_OWN("192", "208,48") " @options return\n"
	"add rule " B " solicit goto drop-nd\n"

	"add rule " B " advert ip6 nexthdr != ipv6-icmp goto drop-nd\n"
	"add rule " B " advert iifname . @th,64,128 @targets goto advert-own\n"
	"add rule " B " advert " TARGET_IS_OWN_HOST " goto advert-own\n"
	"add rule " B " advert iifname @any goto advert-own\n"
	"add rule " B " advert goto drop-nd\n"
	"add rule " B " advert-own ip6 length 24 return\n"
	"add rule " B " advert-own ip6 length 32 " TLLA_IS_OWN("192", "208,48") " @options return\n"
	"add rule " B " advert-own goto drop-nd\n"

	"add rule " B " router-solicit ip6 nexthdr != ipv6-icmp goto drop-nd\n"
	"add rule " B " router-solicit ip6 saddr :: ip6 length 8 accept\n"
	"add rule " B " router-solicit ip6 length 8 return\n"
	"add rule " B " router-solicit ip6 length 16 " SLLA_IS_OWN("64", "80,48")
	" @options return\n"
	"add rule " B " router-solicit goto drop-nd\n";
/* clang-format on */

/*
 * Before ebtables' DNAT, and before br_netfilter lets the host's own rules see the packet. First
 * what nearly every packet is, in one look: sent by a NIC from its own MAC and address. Whatever is
 * not goes all the way, and is judged there.
 */
static const char bridge_hooks[] =
	"add chain " B " prerouting { type filter hook prerouting priority -350; policy accept; }\n"
	"add chain " B " postrouting { type filter hook postrouting priority 0; policy accept; }\n"
	"flush chain " B " prerouting\n"
	"flush chain " B " postrouting\n"
	"add rule " B " prerouting ether type ip iifname . ether saddr . ip saddr @source4 "
	"goto from-ipv4-own\n"
	"add rule " B " prerouting ether type ip6 meta l4proto != ipv6-icmp "
	"iifname . ether saddr . ip6 saddr @source6 goto from-ipv6-own\n"
	"add rule " B " prerouting iifname @nics goto from\n"
	"add rule " B " postrouting ether type ip udp sport 67 udp dport 68 jump hear\n"
	"add rule " B " postrouting ether type ip oifname @grouped goto in4\n"
	"add rule " B " postrouting ether type ip6 oifname @grouped goto in6\n";

void nft_frame_inet_write(FILE *text)
{
	fputs(inet_frame, text);
}

void nft_frame_bridge_write(FILE *text)
{
	fputs(bridge_sets, text);
	nft_frame_groups_make(text);
	fputs(bridge_chains, text);
	fputs(bridge_rules, text);
	nft_frame_groups_fill(text);
	fputs(bridge_hooks, text);
}
