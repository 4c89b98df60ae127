/* What a process asks of the disk, recorded; and, where asked for, a kill or a failure at a chosen request.

   Loaded with LD_PRELOAD by benchmarks/disk_trace.py, which compiles it and reads its log. Only requests on files under
   DISK_TRACE_ROOT count; without that variable nothing is changed. The variables are read at every request, so that a forked
   child sets its own:

   DISK_TRACE_ROOT   absolute path of the folder that is watched
   DISK_TRACE_LOG    file to which every request is appended, with the bytes that were written
   DISK_TRACE_KILL   N: the process is killed before request N (counted from 1); a write is left half done
   DISK_TRACE_FAIL   OPS:N:ERRNO: request N of those named by the letters OPS fails with this error, as do all later ones

   Requests: O open for writing, W write, T truncate, R rename, L link, S symbolic link, U unlink, D rmdir, M mkdir,
   F fsync of a file, G fsync of a folder, Y sync of everything, X something that is not followed (shared writable maps). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static long requests, failures;

struct record { /* followed by the two paths and the data; all in the machine's byte order */
    uint32_t kind, first, second, data;
    uint64_t inode, at;
};

static const char *root(void) {
    const char *folder = getenv("DISK_TRACE_ROOT");
    return folder && *folder ? folder : NULL;
}

static int within(const char *path) {
    const char *folder = root();
    size_t length = folder ? strlen(folder) : 0;
    return folder && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* The absolute path of a name; its folder is resolved, the last part is not. 0 where that is not under the root. */
static int locate(int folder, const char *name, char *out) {
    char full[PATH_MAX], parent[PATH_MAX], link[64];
    if (!root() || !name) return 0;
    if (name[0] == '/') {
        if (snprintf(full, sizeof full, "%s", name) >= (int)sizeof full) return 0;
    } else {
        char base[PATH_MAX];
        if (folder == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t n = readlink(link, base, sizeof base - 1);
            if (n < 0) return 0;
            base[n] = 0;
        }
        if (snprintf(full, sizeof full, "%s/%s", base, name) >= (int)sizeof full) return 0;
    }
    size_t n = strlen(full);
    while (n > 1 && full[n - 1] == '/') full[--n] = 0;
    char *slash = strrchr(full, '/');
    if (!slash) return 0;
    char last[NAME_MAX + 2];
    if (snprintf(last, sizeof last, "%s", slash + 1) >= (int)sizeof last) return 0;
    *slash = 0;
    if (!realpath(*full ? full : "/", parent)) return 0;
    if (snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", last) >= PATH_MAX) return 0;
    return within(out);
}

static int where(int fd, char *out) {
    char link[64];
    if (!root()) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n < 0) return 0;
    out[n] = 0;
    return within(out);
}

/* Before request N: kill, or say that it fails. Returns an errno, or 0; half: whether to write half of it and then die. */
static int before(char kind, int *half) {
    const char *kill_at = getenv("DISK_TRACE_KILL"), *fail = getenv("DISK_TRACE_FAIL");
    requests++;
    if (half) *half = 0;
    if (kill_at && atol(kill_at) == requests) {
        if (half) *half = 1;
        else raise(SIGKILL);
    }
    if (fail) {
        const char *colon = strchr(fail, ':'), *second = colon ? strchr(colon + 1, ':') : NULL;
        const char *found = strchr(fail, kind);
        if (second && found && found < colon && ++failures >= atol(colon + 1)) return atoi(second + 1);
    }
    return 0;
}

static void put(char kind, uint64_t inode, uint64_t at, const char *first, const char *second, const void *data, size_t size) {
    const char *log = getenv("DISK_TRACE_LOG");
    if (!log) return;
    int saved = errno;
    int out = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct record head = {(uint32_t)kind, (uint32_t)strlen(first), second ? (uint32_t)strlen(second) : 0, (uint32_t)size, inode, at};
    struct iovec parts[4] = {{&head, sizeof head}, {(void *)first, head.first}, {(void *)second, head.second}, {(void *)data, size}};
    ssize_t whole = (ssize_t)(sizeof head + head.first + head.second + size);
    if (out < 0 || syscall(SYS_writev, out, parts, 4) != whole) {
        static const char text[] = "disk_trace: the log cannot be written\n";
        (void)!syscall(SYS_write, 2, text, sizeof text - 1);
        raise(SIGKILL);
    }
    syscall(SYS_close, out);
    errno = saved;
}

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

#define LOCK pthread_mutex_lock(&one_at_a_time)
#define UNLOCK pthread_mutex_unlock(&one_at_a_time)

/* ---- opening ---- */
static int opened(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (!writes || (flags & O_TMPFILE) == O_TMPFILE || !locate(folder, name, path))
        return (int)syscall(SYS_openat, folder, name, flags, mode);
    LOCK;
    int fault = before('O', NULL), fd = -1;
    if (!fault) {
        fd = (int)syscall(SYS_openat, folder, name, flags, mode);
        if (fd >= 0) put('O', inode_of(fd), (flags & O_TRUNC) != 0, path, NULL, NULL, 0);
    } else errno = fault;
    UNLOCK;
    return fd;
}
#define MODE mode_t mode = 0; if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE return opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE return opened(folder, name, flags | O_LARGEFILE, mode); }
int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return creat(name, mode); }
static FILE *stream(const char *name, const char *mode, FILE *(*real)(const char *, const char *)) {
    char path[PATH_MAX];
    if (!strpbrk(mode, "wa+") || !locate(AT_FDCWD, name, path)) return real(name, mode);
    LOCK;
    int fault = before('O', NULL);
    FILE *file = NULL;
    if (!fault) {
        file = real(name, mode);
        if (file) put('O', inode_of(fileno(file)), *mode == 'w', path, NULL, NULL, 0);
    } else errno = fault;
    UNLOCK;
    return file;
}
FILE *fopen(const char *name, const char *mode) { REAL(fopen); return stream(name, mode, real); }
FILE *fopen64(const char *name, const char *mode) { REAL(fopen64); return stream(name, mode, real); }

/* ---- writing ---- */
static void written(int fd, const char *path, uint64_t at, ssize_t n) {
    char link[64];
    if (n <= 0) return;
    char *bytes = malloc((size_t)n);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int again = (int)syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    if (bytes && again >= 0 && syscall(SYS_pread64, again, bytes, (size_t)n, at) == n)
        put('W', inode_of(fd), at, path, NULL, bytes, (size_t)n);
    else
        put('X', inode_of(fd), 0, path, "bytes that were written cannot be read again", NULL, 0);
    if (again >= 0) syscall(SYS_close, again);
    free(bytes);
}
/* `call` writes the bytes; in half mode only half of them, and the process dies. at < 0: at the file's own position */
#define WRITE(fd, at, size, call, call_half) \
    char path[PATH_MAX]; \
    if (!where(fd, path)) return call; \
    LOCK; \
    int half, fault = before('W', &half); \
    ssize_t n = -1; \
    if (half) { if (size > 1) { call_half; } raise(SIGKILL); } \
    if (fault) errno = fault; \
    else { \
        n = call; \
        int saved = errno; \
        off_t from_here = (at) >= 0 ? (off_t)(at) : lseek(fd, 0, SEEK_CUR) - n; \
        written(fd, path, (uint64_t)from_here, n); \
        errno = saved; \
    } \
    UNLOCK; \
    return n
ssize_t write(int fd, const void *data, size_t size) {
    WRITE(fd, -1, size, syscall(SYS_write, fd, data, size), syscall(SYS_write, fd, data, size / 2));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    WRITE(fd, at, size, syscall(SYS_pwrite64, fd, data, size, at), syscall(SYS_pwrite64, fd, data, size / 2, at));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) {
    WRITE(fd, -1, count, syscall(SYS_writev, fd, parts, count), syscall(SYS_writev, fd, parts, count / 2));
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    WRITE(fd, at, count, syscall(SYS_pwritev, fd, parts, count, at, 0), syscall(SYS_pwritev, fd, parts, count / 2, at, 0));
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return pwritev(fd, parts, count, at); }
ssize_t sendfile(int fd, int from, off_t *at, size_t size) {
    WRITE(fd, -1, size, syscall(SYS_sendfile, fd, from, at, size), syscall(SYS_sendfile, fd, from, at, size / 2));
}
ssize_t sendfile64(int fd, int from, off64_t *at, size_t size) { return sendfile(fd, from, at, size); }
ssize_t copy_file_range(int from, off64_t *from_at, int fd, off64_t *at, size_t size, unsigned flags) {
    off64_t start = at ? *at : -1;
    WRITE(fd, start, size, syscall(SYS_copy_file_range, from, from_at, fd, at, size, flags),
          syscall(SYS_copy_file_range, from, from_at, fd, at, size / 2, flags));
}
static int resized(int fd, off_t size, int shorter, int (*change)(int, off_t)) {
    char path[PATH_MAX];
    if (!where(fd, path)) return change(fd, size);
    LOCK;
    int fault = before('T', NULL), code = -1;
    struct stat found;
    if (fault) errno = fault;
    else if ((code = change(fd, size)) == 0 && fstat(fd, &found) == 0 && (shorter || found.st_size == size))
        put('T', found.st_ino, (uint64_t)found.st_size, path, NULL, NULL, 0);
    UNLOCK;
    return code;
}
static int cut(int fd, off_t size) { return (int)syscall(SYS_ftruncate, fd, size); }
int ftruncate(int fd, off_t size) { return resized(fd, size, 1, cut); }
int ftruncate64(int fd, off64_t size) { return resized(fd, size, 1, cut); }
int truncate(const char *name, off_t size) {
    int fd = open(name, O_WRONLY);
    if (fd < 0) return -1;
    int code = ftruncate(fd, size);
    close(fd);
    return code;
}
int truncate64(const char *name, off64_t size) { return truncate(name, size); }
static int reserve(int fd, off_t size) { return (int)syscall(SYS_fallocate, fd, 0, 0, size); }
int fallocate(int fd, int mode, off_t at, off_t size) {
    char path[PATH_MAX];
    if (mode == 0 && where(fd, path)) return resized(fd, at + size, 0, reserve);
    return (int)syscall(SYS_fallocate, fd, mode, at, size);
}
int fallocate64(int fd, int mode, off64_t at, off64_t size) { return fallocate(fd, mode, at, size); }
int posix_fallocate(int fd, off_t at, off_t size) { return fallocate(fd, 0, at, size) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t at, off64_t size) { return posix_fallocate(fd, at, size); }
static void *mapped(void *at, size_t size, int rights, int flags, int fd, off_t offset) {
    char path[PATH_MAX];
    if (fd >= 0 && (rights & PROT_WRITE) && (flags & MAP_SHARED) && where(fd, path))
        put('X', inode_of(fd), 0, path, "a shared writable map", NULL, 0);
    return (void *)syscall(SYS_mmap, at, size, rights, flags, fd, offset);
}
void *mmap(void *at, size_t size, int rights, int flags, int fd, off_t offset) { return mapped(at, size, rights, flags, fd, offset); }
void *mmap64(void *at, size_t size, int rights, int flags, int fd, off64_t offset) { return mapped(at, size, rights, flags, fd, offset); }

/* ---- names ---- */
#define NAMES(kind, first_folder, first_name, second_folder, second_name, call) \
    char one[PATH_MAX], two[PATH_MAX]; \
    int first_in = locate(first_folder, first_name, one), second_in = locate(second_folder, second_name, two); \
    if (!first_in && !second_in) return (int)(call); \
    LOCK; \
    int fault = before(kind, NULL), code = -1; \
    if (fault) errno = fault; \
    else if ((code = (int)(call)) == 0) { \
        struct stat found; \
        uint64_t inode = fstatat(second_folder, second_name, &found, AT_SYMLINK_NOFOLLOW) == 0 ? found.st_ino : 0; \
        put(kind, inode, 0, first_in ? one : "", second_in ? two : "", NULL, 0); \
    } \
    UNLOCK; \
    return code
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    NAMES('R', a, from, b, to, syscall(SYS_renameat2, a, from, b, to, flags));
}
int renameat(int a, const char *from, int b, const char *to) { return renameat2(a, from, b, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    NAMES('L', a, from, b, to, syscall(SYS_linkat, a, from, b, to, flags));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
#define NAME(kind, folder, name, text, call) \
    char path[PATH_MAX]; \
    if (!locate(folder, name, path)) return (int)(call); \
    LOCK; \
    int fault = before(kind, NULL), code = -1; \
    if (fault) errno = fault; \
    else if ((code = (int)(call)) == 0) put(kind, 0, 0, path, text, NULL, 0); \
    UNLOCK; \
    return code
int symlinkat(const char *to, int folder, const char *name) { NAME('S', folder, name, to, syscall(SYS_symlinkat, to, folder, name)); }
int symlink(const char *to, const char *name) { return symlinkat(to, AT_FDCWD, name); }
int unlinkat(int folder, const char *name, int flags) {
    char kind = flags & AT_REMOVEDIR ? 'D' : 'U';
    NAME(kind, folder, name, NULL, syscall(SYS_unlinkat, folder, name, flags));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int remove(const char *name) {
    struct stat found;
    if (lstat(name, &found) != 0) return -1;
    return S_ISDIR(found.st_mode) ? rmdir(name) : unlink(name);
}
int mkdirat(int folder, const char *name, mode_t mode) { NAME('M', folder, name, NULL, syscall(SYS_mkdirat, folder, name, mode)); }
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* ---- flushing ---- */
static int flushed(int fd, long call) {
    char path[PATH_MAX];
    struct stat found;
    if (!where(fd, path) || fstat(fd, &found) != 0) return (int)syscall(call, fd);
    char kind = S_ISDIR(found.st_mode) ? 'G' : 'F';
    LOCK;
    int fault = before(kind, NULL), code = -1;
    if (fault) errno = fault;
    else if ((code = (int)syscall(call, fd)) == 0) put(kind, found.st_ino, 0, path, NULL, NULL, 0);
    UNLOCK;
    return code;
}
int fsync(int fd) { return flushed(fd, SYS_fsync); }
int fdatasync(int fd) { return flushed(fd, SYS_fdatasync); }
int syncfs(int fd) { if (root()) put('Y', 0, 0, "", NULL, NULL, 0); return (int)syscall(SYS_syncfs, fd); }
void sync(void) { if (root()) put('Y', 0, 0, "", NULL, NULL, 0); syscall(SYS_sync); }
