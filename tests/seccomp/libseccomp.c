/*
 * Compiles a profile with libseccomp and prints the program, for comparison
 * with capsid's (tests/seccomp/peer.rs writes the input, and reads the output).
 *
 *     libseccomp [load]
 *
 * Standard input, one word list per line; numbers as strtoull(3) takes them:
 *
 *     optimize LEVEL
 *     default RETURN
 *     foreign RETURN            for architectures that are not listed
 *     arch NAME                 as libseccomp calls it
 *     rule RETURN NAME [INDEX OPERATOR A B]...
 *
 * Standard output:
 *
 *     version MAJOR.MINOR.MICRO
 *     unknown NAME              libseccomp does not know this system call
 *     refused LINE ERRNO        libseccomp does not take this rule
 *     insn CODE JT JF K
 *     compile NANOSECONDS       from seccomp_init to the exported program
 *     load NANOSECONDS          with "load": seccomp(2), which needs no_new_privs
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MOST_RULES 65536
#define MOST_ARGUMENTS 6
#define MOST_INSTRUCTIONS 65536

struct rule {
	uint32_t value;
	char *name;
	unsigned line, count;
	struct scmp_arg_cmp args[MOST_ARGUMENTS];
	int outcome;
};

static struct rule rules[MOST_RULES];
static unsigned rule_count;
static const char *arches[8];
static unsigned arch_count;
static uint32_t optimize = 1, otherwise, foreign;
static struct sock_filter program[MOST_INSTRUCTIONS];

static void fail(const char *what)
{
	fprintf(stderr, "libseccomp.c: %s\n", what);
	exit(1);
}

static uint64_t number(void)
{
	char *word = strtok(NULL, " \n");
	if (!word)
		fail("a number is missing");
	return strtoull(word, NULL, 0);
}

static void read_rule(unsigned line)
{
	if (rule_count == MOST_RULES)
		fail("too many rules");
	struct rule *rule = &rules[rule_count++];
	rule->line = line;
	rule->value = number();
	char *word = strtok(NULL, " \n");
	if (!word || !(rule->name = strdup(word)))
		fail("a name is missing");
	while ((word = strtok(NULL, " \n"))) {
		if (rule->count == MOST_ARGUMENTS)
			fail("too many conditions");
		struct scmp_arg_cmp *arg = &rule->args[rule->count++];
		arg->arg = strtoull(word, NULL, 0);
		arg->op = number();
		arg->datum_a = number();
		arg->datum_b = number();
	}
}

static void read_input(void)
{
	char line[4096];
	for (unsigned at = 1; fgets(line, sizeof line, stdin); at++) {
		char *word = strtok(line, " \n");
		if (!word)
			continue;
		if (!strcmp(word, "optimize"))
			optimize = number();
		else if (!strcmp(word, "default"))
			otherwise = number();
		else if (!strcmp(word, "foreign"))
			foreign = number();
		else if (!strcmp(word, "rule"))
			read_rule(at);
		else if (!strcmp(word, "arch") && arch_count < 8)
			arches[arch_count++] = strdup(strtok(NULL, " \n"));
		else
			fail("unknown word");
	}
}

/* As engines use it: no exact rules, names resolved for the native architecture. */
static int compile(void)
{
	scmp_filter_ctx filter = seccomp_init(otherwise);
	if (!filter)
		fail("seccomp_init");
	if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, foreign) ||
	    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, optimize))
		fail("seccomp_attr_set");
	for (unsigned i = 0; i < arch_count; i++) {
		uint32_t token = seccomp_arch_resolve_name(arches[i]);
		if (seccomp_arch_exist(filter, token) && seccomp_arch_add(filter, token))
			fail("seccomp_arch_add");
	}
	for (unsigned i = 0; i < rule_count; i++) {
		struct rule *rule = &rules[i];
		int call = seccomp_syscall_resolve_name(rule->name);
		rule->outcome = call == __NR_SCMP_ERROR
			? 1 : seccomp_rule_add_array(filter, rule->value, call, rule->count, rule->args);
	}
	int file = memfd_create("program", MFD_CLOEXEC);
	if (file < 0 || seccomp_export_bpf(filter, file))
		fail("seccomp_export_bpf");
	seccomp_release(filter);
	return file;
}

static long long nanoseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv)
{
	/* Some rules keep it busy for ever; usual ones take 30 ms. */
	alarm(3);
	read_input();
	/* What the kernel can do does not matter for what is only compiled. */
	seccomp_api_set(6);
	long long start = nanoseconds();
	int file = compile();
	long long compiled = nanoseconds();
	ssize_t size = pread(file, program, sizeof program, 0);
	if (size <= 0)
		fail("no program");
	size_t count = size / sizeof *program;

	const struct scmp_version *version = seccomp_version();
	printf("version %u.%u.%u\n", version->major, version->minor, version->micro);
	for (unsigned i = 0; i < rule_count; i++) {
		if (rules[i].outcome > 0)
			printf("unknown %s\n", rules[i].name);
		else if (rules[i].outcome < 0)
			printf("refused %u %d\n", rules[i].line, -rules[i].outcome);
	}
	for (size_t i = 0; i < count; i++)
		printf("insn %u %u %u %u\n", program[i].code, program[i].jt, program[i].jf, program[i].k);
	printf("compile %lld\n", compiled - start);
	if (argc > 1 && !strcmp(argv[1], "load")) {
		struct sock_fprog filter = { .len = count, .filter = program };
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
			fail("PR_SET_NO_NEW_PRIVS");
		start = nanoseconds();
		if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter))
			fail("seccomp(2)");
		printf("load %lld\n", nanoseconds() - start);
	}
	return 0;
}
