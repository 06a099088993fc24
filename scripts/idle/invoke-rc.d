#!/bin/sh
# Does nothing. While scripts/setup installs packages, what they call to make a cluster, or to
# start or restart a service, is this.
exit 0
