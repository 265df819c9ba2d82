/* A disk that keeps only what it was told to keep.
 *
 * Loaded into a program with LD_PRELOAD. FORGETS_BELOW names a folder, FORGETS_KEEPS another one, which stands for the
 * disk under the first. fsync and fdatasync of a file below FORGETS_BELOW bring its bytes there, of a folder its names;
 * nothing else does. What the test then puts in the place of the folder is made of these copies alone.
 *
 * A file or folder is known by inode and time of birth, so that an inode that is used again is another file:
 *   KEY.bytes  a file as of its last fsync
 *   KEY.names  a folder as of its last fsync: a line for each name, "f KEY NAME" or "d KEY NAME"
 *   KEY.cut    the shortest that the file was made since then, in twenty decimal digits
 *   KEY.lock   held while one of these is written
 *
 * A copy is brought up to date in place, block by block, as a disk does it: a process that is killed meanwhile leaves
 * it half old and half new, and its fsync was not answered. The real fsync is not called: nobody would look.
 *
 * Whatever makes durable in another way (O_SYNC, syncfs, sync_file_range, msync) does not count here, and neither does
 * a system call that goes past the C library: who comes to rely on that is found lacking, not passed over. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096, CHUNK = 16 * BLOCK, TRIES = 1000 };

static char below[PATH_MAX], keeps[PATH_MAX / 2];

/* The key of what AT and NAME lead to, and its kind. 0 where it is there. */
static int key_of(int at, const char *name, char key[64], unsigned *mode) {
    struct statx found;
    if (statx(at, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) return -1;
    long long born = found.stx_mask & STATX_BTIME ? found.stx_btime.tv_sec * 1000000000LL + found.stx_btime.tv_nsec : 0;
    snprintf(key, 64, "%llu-%lld", (unsigned long long)found.stx_ino, born);
    *mode = found.stx_mode;
    return 0;
}

/* Opens, makes or replaces a file of the disk. */
static int on_disk(const char *key, const char *kind, int flags) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.%s", keeps, key, kind);
    return open(path, flags | O_CLOEXEC, 0600);
}

/* One writer for each key, threads included; ends with the file. */
static int locked(const char *key) {
    int lock = on_disk(key, "lock", O_RDWR | O_CREAT);
    while (lock >= 0 && flock(lock, LOCK_EX) != 0) {
        if (errno != EINTR) { close(lock); return -1; }
    }
    return lock;
}

/* The shortest that the file was since its last fsync; -1 where it was never shortened. */
static long long shortest(const char *key) {
    char text[32] = "";
    int cut = on_disk(key, "cut", O_RDONLY);
    if (cut < 0) return -1;
    ssize_t got = read(cut, text, sizeof text - 1);
    close(cut);
    return got > 0 ? atoll(text) : -1;
}

static int write_all(int to, const char *bytes, size_t length, off_t at) {
    while (length > 0) {
        ssize_t done = pwrite(to, bytes, length, at);
        if (done <= 0) return -1;
        bytes += done, length -= done, at += done;
    }
    return 0;
}

/* Brings the copy of a file up to date. What was cut off goes first: bytes from before never stand behind new ones. */
static int keep_bytes(int fd, const char *key, unsigned mode) {
    char self[64], now[CHUNK], before[CHUNK];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int from = open(self, O_RDONLY | O_CLOEXEC), to = on_disk(key, "bytes", O_RDWR | O_CREAT);
    long long cut = shortest(key);
    off_t at = 0;
    ssize_t got = -1;
    if (from < 0 || to < 0 || fchmod(to, mode & 0777) != 0) goto end;
    if (cut >= 0 && lseek(to, 0, SEEK_END) > cut && ftruncate(to, cut) != 0) goto end;
    while ((got = pread(from, now, CHUNK, at)) > 0) {
        ssize_t had = pread(to, before, CHUNK, at);
        for (ssize_t block = 0; block < got; block += BLOCK) {
            ssize_t length = got - block < BLOCK ? got - block : BLOCK;
            int same = had >= block + length && memcmp(now + block, before + block, length) == 0;
            if (!same && write_all(to, now + block, length, at + block) != 0) { got = -1; goto end; }
        }
        at += got;
    }
    if (got == 0 && ftruncate(to, at) != 0) got = -1;
    if (got == 0 && cut >= 0) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s.cut", keeps, key);
        got = unlink(path);
    }
end:
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    return got == 0 ? 0 : -1;
}

/* Lists a folder. A name that goes away meanwhile makes the list void: 1. */
static int list(int fd, char **text, size_t *length) {
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;
    DIR *folder = again >= 0 ? fdopendir(again) : NULL;
    FILE *out = open_memstream(text, length);
    struct dirent *entry;
    if (folder == NULL || out == NULL) result = -1;
    while (result == 0 && (entry = readdir(folder)) != NULL) {
        char key[64];
        unsigned mode;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (key_of(again, entry->d_name, key, &mode) != 0) result = 1;
        else if (S_ISDIR(mode)) fprintf(out, "d %s %s\n", key, entry->d_name);
        else if (S_ISREG(mode)) fprintf(out, "f %s %s\n", key, entry->d_name);
    }
    if (folder != NULL) closedir(folder); else if (again >= 0) close(again);
    if (out != NULL) fclose(out);
    return result;
}

/* Replaces the list of a folder's names. Read until it is the same twice: a name that moves while it is read might
 * otherwise be missing before and after. */
static int keep_names(int fd, const char *key) {
    char *last = NULL, path[PATH_MAX], new[PATH_MAX];
    size_t length = 0;
    int result = -1;
    for (int tries = 0; tries < TRIES; tries++) {
        char *text = NULL;
        size_t now = 0;
        int listed = list(fd, &text, &now);
        int same = listed == 0 && last != NULL && now == length && memcmp(text, last, now) == 0;
        free(last);
        last = listed == 0 ? text : NULL, length = now;
        if (listed != 0) free(text);
        if (same || listed < 0) { result = same ? 0 : -1; break; }
    }
    if (result == 0) {
        int to = on_disk(key, "new", O_WRONLY | O_CREAT | O_TRUNC);
        snprintf(path, sizeof path, "%s/%s.names", keeps, key);
        snprintf(new, sizeof new, "%s/%s.new", keeps, key);
        if (to < 0 || write_all(to, last, length, 0) != 0 || rename(new, path) != 0) result = -1;
        if (to >= 0) close(to);
    }
    free(last);
    return result;
}

/* Whether a descriptor leads to something below the folder. */
static int is_below(int fd) {
    char self[64], path[PATH_MAX];
    size_t length = strlen(below);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    ssize_t got = below[0] ? readlink(self, path, sizeof path - 1) : -1;
    if (got < 0) return 0;
    path[got] = 0;
    return strncmp(path, below, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int keep(int fd) {
    char key[64];
    unsigned mode;
    if (key_of(fd, "", key, &mode) != 0) return -1;
    int lock = locked(key);
    if (lock < 0) return -1;
    int kept = S_ISDIR(mode) ? keep_names(fd, key) : keep_bytes(fd, key, mode);
    close(lock);
    if (kept != 0) errno = EIO;
    return kept;
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("FORGETS_BELOW"), *disk = getenv("FORGETS_KEEPS");
    if (folder == NULL || disk == NULL || strlen(folder) >= sizeof below || strlen(disk) >= sizeof keeps) return;
    strcpy(keeps, disk);
    strcpy(below, folder);
}

int fsync(int fd) {
    return is_below(fd) ? keep(fd) : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    return is_below(fd) ? keep(fd) : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

/* A file that is shortened: what it had there does not come back behind what is written later. */
static int shorten(int fd, off_t length, const char *real) {
    int (*shorten_really)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, real);
    char key[64], text[32];
    unsigned mode;
    if (!is_below(fd) || key_of(fd, "", key, &mode) != 0) return shorten_really(fd, length);
    int lock = locked(key), result = shorten_really(fd, length);
    long long before = shortest(key);
    if (lock >= 0 && result == 0 && (before < 0 || length < before)) {
        int cut = on_disk(key, "cut", O_WRONLY | O_CREAT);
        snprintf(text, sizeof text, "%020lld", (long long)length);
        if (cut < 0 || write_all(cut, text, strlen(text), 0) != 0) { errno = EIO; result = -1; }
        if (cut >= 0) close(cut);
    }
    if (lock >= 0) close(lock);
    return result;
}

int ftruncate(int fd, off_t length) { return shorten(fd, length, "ftruncate"); }
int ftruncate64(int fd, off_t length) { return shorten(fd, length, "ftruncate64"); }
