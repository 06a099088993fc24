/* A disk that takes FLUSH_US microseconds longer to flush: preloaded, it stands before
 * fdatasync, by which PostgreSQL makes commits durable. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int file)
{
    static int (*flush)(int);
    static useconds_t longer;
    int result;

    if (flush == NULL)
    {
        longer = (useconds_t) atoi(getenv("FLUSH_US"));
        flush = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    }
    result = flush(file);
    usleep(longer);
    return result;
}
