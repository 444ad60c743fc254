/*
 * floor: the least a process asks of the kernel to start one container of the
 * shape that `runc spec` describes, with one seccomp filter. No configuration,
 * no state, no split of create and start: what a runtime costs above this is
 * the runtime's own.
 *
 *   floor [-c CGROUP] ROOTFS PROGRAM [ARGS]
 *
 * CGROUP is a directory on a cgroup2 file system that does not exist yet; it is
 * made, joined at clone, and removed. The exit status is the program's,
 * 128 + signal, or 125 with one line on standard error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#else
#error "no audit architecture known for this machine"
#endif

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define PLAIN (MS_NOSUID | MS_NODEV | MS_NOEXEC)

enum { FAILED = 125 };

/* `must(call, object)`: a step either succeeds or ends everything with its text. */
#define must(call, object)                                                     \
	do {                                                                   \
		if ((call) < 0) {                                              \
			dprintf(2, "floor: %s (%s): %s\n", #call, object,      \
				strerror(errno));                              \
			_exit(FAILED);                                         \
		}                                                              \
	} while (0)

/* File systems, in the order of the configuration; `make` where a tmpfs is the parent. */
static const struct {
	const char *type, *point, *data;
	unsigned long flags;
	int make;
} filesystems[] = {
	{ "proc", "proc", NULL, 0, 0 },
	{ "tmpfs", "dev", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME, 0 },
	{ "devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5",
	  MS_NOSUID | MS_NOEXEC, 1 },
	{ "tmpfs", "dev/shm", "mode=1777,size=65536k", PLAIN, 1 },
	{ "mqueue", "dev/mqueue", NULL, PLAIN, 1 },
	{ "sysfs", "sys", NULL, PLAIN | MS_RDONLY, 0 },
	{ "cgroup2", "sys/fs/cgroup", NULL, PLAIN | MS_RELATIME | MS_RDONLY, 0 },
};

static const struct {
	const char *name;
	unsigned major, minor;
} nodes[] = {
	{ "dev/null", 1, 3 },	{ "dev/zero", 1, 5 },	 { "dev/full", 1, 7 },
	{ "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 },
};

static const struct {
	const char *name, *target;
} links[] = {
	{ "dev/ptmx", "pts/ptmx" },
	{ "dev/fd", "/proc/self/fd" },
	{ "dev/stdin", "/proc/self/fd/0" },
	{ "dev/stdout", "/proc/self/fd/1" },
	{ "dev/stderr", "/proc/self/fd/2" },
};

static const char *const hidden[] = {
	"/proc/acpi",	      "/proc/asound",	  "/proc/kcore",      "/proc/keys",
	"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
	"/proc/sched_debug",  "/sys/firmware",	  "/proc/scsi",
};

static const char *const frozen[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

/* Capabilities that `runc spec` grants. */
static const unsigned granted[] = { CAP_AUDIT_WRITE, CAP_KILL, CAP_NET_BIND_SERVICE };

/* A filter of the least useful kind: three refused calls and the native ABI only. */
static struct sock_filter filter[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_bpf, 3, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_kexec_load, 2, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_perf_event_open, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
};

static void mount_everything(const char *rootfs)
{
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "/");
	must(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL), rootfs);
	must(chdir(rootfs), rootfs);
	umask(0);
	for (unsigned i = 0; i < COUNT(filesystems); i++) {
		const char *point = filesystems[i].point;

		if (filesystems[i].make)
			must(mkdir(point, 0755), point);
		must(mount(filesystems[i].type, point, filesystems[i].type,
			   filesystems[i].flags, filesystems[i].data),
		     point);
	}
	for (unsigned i = 0; i < COUNT(nodes); i++)
		must(mknod(nodes[i].name, S_IFCHR | 0666,
			   makedev(nodes[i].major, nodes[i].minor)),
		     nodes[i].name);
	for (unsigned i = 0; i < COUNT(links); i++)
		must(symlink(links[i].target, links[i].name), links[i].name);
}

static void change_root(void)
{
	must(syscall(SYS_pivot_root, ".", "."), ".");
	must(umount2(".", MNT_DETACH), "the old root");
	must(chdir("/"), "/");
}

/* A file is covered by the null device, a directory by an empty tmpfs. */
static void cover(void)
{
	for (unsigned i = 0; i < COUNT(hidden); i++) {
		if (!mount("/dev/null", hidden[i], NULL, MS_BIND, NULL) || errno == ENOENT)
			continue;
		must(mount("tmpfs", hidden[i], "tmpfs", MS_RDONLY, NULL), hidden[i]);
	}
	for (unsigned i = 0; i < COUNT(frozen); i++) {
		if (mount(frozen[i], frozen[i], NULL, MS_BIND | MS_REC, NULL) && errno == ENOENT)
			continue;
		must(mount(NULL, frozen[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | PLAIN, NULL),
		     frozen[i]);
	}
	must(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), "/");
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	must(s, "socket");
	must(ioctl(s, SIOCSIFFLAGS, &request), "lo");
	close(s);
}

static int is_granted(unsigned capability)
{
	for (unsigned i = 0; i < COUNT(granted); i++)
		if (granted[i] == capability)
			return 1;
	return 0;
}

static void give_up_privileges(void)
{
	struct rlimit files = { 1024, 1024 };
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2] = { { 0 }, { 0 } };
	struct sock_fprog program = { COUNT(filter), filter };
	unsigned capability;

	umask(022);
	must(setrlimit(RLIMIT_NOFILE, &files), "RLIMIT_NOFILE");
	for (capability = 0; capability < 64; capability++)
		if (!is_granted(capability) &&
		    prctl(PR_CAPBSET_DROP, (unsigned long)capability, 0, 0, 0))
			break;
	for (unsigned i = 0; i < COUNT(granted); i++) {
		sets[granted[i] / 32].permitted |= 1u << granted[i] % 32;
		sets[granted[i] / 32].effective |= 1u << granted[i] % 32;
	}
	must(syscall(SYS_capset, &header, sets), "capabilities");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must(syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */), "descriptors");
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "filter");
}

static void become(const char *rootfs, char **argv)
{
	static char *const env[] = { "PATH=/usr/bin:/bin", "TERM=xterm", "HOME=/root", NULL };

	must(setsid(), "session");
	must(syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL), "keyring");
	loopback_up();
	mount_everything(rootfs);
	change_root();
	cover();
	must(sethostname("floor", 5), "hostname");
	give_up_privileges();
	must(execve(argv[0], argv, env), argv[0]);
}

int main(int argc, char **argv)
{
	struct clone_args how = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
			 CLONE_NEWUTS | CLONE_NEWCGROUP,
		.exit_signal = SIGCHLD,
	};
	const char *cgroup = NULL;
	int status, group = -1;
	long pid;

	if (argc > 2 && !strcmp(argv[1], "-c")) {
		cgroup = argv[2];
		argc -= 2;
		argv += 2;
	}
	if (argc < 3) {
		dprintf(2, "usage: floor [-c CGROUP] ROOTFS PROGRAM [ARGS]\n");
		return FAILED;
	}
	if (cgroup) {
		must(mkdir(cgroup, 0755), cgroup);
		group = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
		must(group, cgroup);
		how.flags |= CLONE_INTO_CGROUP;
		how.cgroup = (uint64_t)group;
	}
	pid = syscall(SYS_clone3, &how, sizeof how);
	must(pid, "namespaces");
	if (!pid)
		become(argv[1], argv + 2);
	must(wait4((pid_t)pid, &status, 0, NULL), "program");
	if (cgroup)
		must(rmdir(cgroup), cgroup);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
