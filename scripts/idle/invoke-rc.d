#!/bin/sh
# Does nothing. While scripts/setup installs packages, they call this instead of the program that
# creates a cluster, or starts or restarts a service.
exit 0
