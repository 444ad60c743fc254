/*
 * rounds: runs several commands in turn, round after round, so that whatever
 * slows the machine slows all of them alike.
 *
 *   rounds [-o] N :: NAME COMMAND... :: NAME COMMAND...
 *
 * With -o the CPU time of processes that a command leaves behind counts too: it
 * is waited for, but not in the wall time. bubblewrap, for one, does not wait
 * for what it starts, and its own CPU time is less than half of it all.
 *
 * "%i" anywhere in a word becomes the number of the round. Commands get no
 * standard input and their output is thrown away. One line per command goes to
 * standard output, tab-separated: name, wall time (minimum, first quartile,
 * median), CPU time of it and its waited-for children (minimum, median), all
 * in microseconds, and the largest resident set in kB. A command that fails
 * ends everything with exit status 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16, WORDS = 160 };

struct contender {
	const char *name;
	char **words;
	int count;
	long *wall, *cpu, rss;
};

static long micros(struct timeval t)
{
	return t.tv_sec * 1000000L + t.tv_usec;
}

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static char *numbered(const char *word, int round)
{
	const char *mark = strstr(word, "%i");
	char *result;

	if (!mark)
		return strdup(word);
	if (asprintf(&result, "%.*s%d%s", (int)(mark - word), word, round, mark + 2) < 0)
		return NULL;
	return result;
}

static void become(char **words)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, 0);
	dup2(null, 1);
	/* Standard error stays: a failure must be readable. */
	execvp(words[0], words);
	_exit(127);
}

static int orphans;

/* The CPU time of all that is left behind, once it has ended. */
static long collect(void)
{
	struct rusage used;
	long sum = 0;

	while (wait4(-1, NULL, 0, &used) > 0)
		sum += micros(used.ru_utime) + micros(used.ru_stime);
	return sum;
}

static int once(struct contender *c, int round)
{
	char *words[WORDS] = { 0 };
	struct rusage used;
	long begin;
	pid_t pid;
	int status;

	for (int i = 0; i < c->count; i++)
		words[i] = numbered(c->words[i], round);
	begin = now();
	pid = vfork();
	if (pid == 0)
		become(words);
	if (pid < 0 || wait4(pid, &status, 0, &used) < 0)
		return -1;
	c->wall[round] = now() - begin;
	c->cpu[round] = micros(used.ru_utime) + micros(used.ru_stime);
	if (orphans)
		c->cpu[round] += collect();
	if (used.ru_maxrss > c->rss)
		c->rss = used.ru_maxrss;
	for (int i = 0; i < c->count; i++)
		free(words[i]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	fprintf(stderr, "rounds: %s ended with status %#x in round %d\n", c->name, status, round);
	return -1;
}

static int ascending(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	struct contender all[MOST] = { 0 };
	int rounds, count = 0;

	if (argc > 1 && !strcmp(argv[1], "-o")) {
		orphans = !prctl(PR_SET_CHILD_SUBREAPER, 1);
		argc--;
		argv++;
	}
	rounds = argc > 1 ? atoi(argv[1]) : 0;

	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "::") && i + 2 < argc && count < MOST) {
			all[count].name = argv[i + 1];
			all[count].words = argv + i + 2;
			all[count].wall = calloc((size_t)rounds, sizeof(long));
			all[count].cpu = calloc((size_t)rounds, sizeof(long));
			count++;
			i++;
		} else if (count && all[count - 1].count < WORDS - 1) {
			all[count - 1].count++;
		}
	}
	if (rounds < 4 || !count) {
		fprintf(stderr, "usage: rounds [-o] N (at least 4) :: NAME COMMAND... [:: NAME COMMAND...]\n");
		return 2;
	}
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < count; i++)
			if (once(&all[(round + i) % count], round))
				return 1;
	for (int i = 0; i < count; i++) {
		qsort(all[i].wall, (size_t)rounds, sizeof(long), ascending);
		qsort(all[i].cpu, (size_t)rounds, sizeof(long), ascending);
		printf("%s\t%ld\t%ld\t%ld\t%ld\t%ld\t%ld\n", all[i].name, all[i].wall[0],
		       all[i].wall[rounds / 4], all[i].wall[rounds / 2], all[i].cpu[0],
		       all[i].cpu[rounds / 2], all[i].rss);
	}
	return 0;
}
