/* A daemon as textbooks write it: forks, starts a session, forks again, closes its standard streams, changes to "/".
 *
 * Usage: daemon FOLDER TAG; or daemon --drop-queue TAG, for the test's own tidying. The first process prints the ready line, and on end of its input asks the daemon to tidy up.
 * It leaves, when killed: pid file, lock file, fifo, pathname and abstract socket, POSIX semaphore, queue and segment,
 * and a System V segment, semaphore and queue. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <mqueue.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(int ok, const char *what) {
    if (!ok) {
        perror(what);
        _exit(1);
    }
}

static int bound(const char *path, const char *abstract) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length;
    if (abstract) {
        length = offsetof(struct sockaddr_un, sun_path) + 1 +
                 snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "%s", abstract);
    } else {
        snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
        length = sizeof address;
    }
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(s >= 0 && bind(s, (struct sockaddr *)&address, length) == 0 && listen(s, 8) == 0, "socket");
    return s;
}

int main(int count, char **argument) {
    if (count != 3) return 2;
    if (strcmp(argument[1], "--drop-queue") == 0) {
        char queue[100];
        snprintf(queue, sizeof queue, "/%s", argument[2]);
        return mq_unlink(queue) != 0;
    }
    const char *folder = argument[1], *tag = argument[2];
    char pid_file[200], lock_file[200], fifo[200], path[100], name[100];
    snprintf(pid_file, sizeof pid_file, "%s/%s.pid", folder, tag);
    snprintf(lock_file, sizeof lock_file, "%s/%s.lock", folder, tag);
    snprintf(fifo, sizeof fifo, "%s/%s.fifo", folder, tag);
    snprintf(path, sizeof path, "%s/%s.sock", folder, tag);
    snprintf(name, sizeof name, "/%s", tag);
    int ready[2], tidy[2];
    need(pipe2(ready, O_CLOEXEC) == 0 && pipe2(tidy, O_CLOEXEC) == 0, "pipe");
    if (fork() == 0) {
        setsid();
        if (fork() != 0) _exit(0);
        close(tidy[1]);
        need(chdir("/") == 0, "chdir");
        FILE *pid = fopen(pid_file, "w");
        need(pid && fprintf(pid, "%d\n", getpid()) > 0 && fclose(pid) == 0, "pid file");
        int lock = open(lock_file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        need(lock >= 0 && lockf(lock, F_LOCK, 0) == 0, "lock file");
        need(mkfifo(fifo, 0600) == 0, "fifo");
        bound(path, NULL);
        bound(NULL, tag);
        need(sem_open(name, O_CREAT | O_EXCL, 0600, 1) != SEM_FAILED, "semaphore");
        int segment = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
        need(segment >= 0 && ftruncate(segment, 65536) == 0, "segment");
        need(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, segment, 0) != MAP_FAILED, "mmap");
        mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, NULL);
        need(queue >= 0, "queue");
        int shm = shmget(IPC_PRIVATE, 4096, 0600), sem = semget(IPC_PRIVATE, 1, 0600), msg = msgget(IPC_PRIVATE, 0600);
        need(shm >= 0 && sem >= 0 && msg >= 0 && shmat(shm, NULL, 0) != (void *)-1, "System V");
        char line[200];
        int length = snprintf(line, sizeof line, "daemon=%d shm=%d sem=%d msg=%d\n", getpid(), shm, sem, msg);
        need(write(ready[1], line, length) == length, "ready"); /* and keep this end: its closing says "gone" */
        int null = open("/dev/null", O_RDWR);
        for (int i = 0; i < 3; i++) dup2(null, i);
        if (null > 2) close(null);
        char byte;
        if (read(tidy[0], &byte, 1) != 1) /* the first process died without asking */
            for (;;) pause();
        unlink(pid_file), unlink(lock_file), unlink(fifo), unlink(path);
        sem_unlink(name), shm_unlink(name), mq_unlink(name);
        shmctl(shm, IPC_RMID, NULL), semctl(sem, 0, IPC_RMID), msgctl(msg, IPC_RMID, NULL);
        _exit(0);
    }
    wait(NULL);
    close(ready[1]), close(tidy[0]);
    char line[200] = {0};
    need(read(ready[0], line, sizeof line - 1) > 0, "daemon");
    printf("ready %s", line);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0) {
    }
    return write(tidy[1], "x", 1) != 1 || read(ready[0], &byte, 1) != 0;
}
