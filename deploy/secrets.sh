#!/bin/sh
# Makes deploy/secrets: the store's users, and the settings by which Kairos reaches it.
# Never overwrites; to change the password remove the folder, run again, restart both.
set -eu
cd "$(dirname "$0")"
if [ -e secrets ]; then
    echo "deploy/secrets is there already" >&2
    exit 1
fi
password=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
hashed=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)

# The containers' users read the files, which lie in a folder that only you can enter.
mkdir -m 0700 secrets
cat > secrets/users.acl <<EOF
user default on nopass resetkeys resetchannels -@all +ping
user kairos on #$hashed resetchannels ~{* -@all +@read +@write +@connection +eval +time +wait -@dangerous -function +info +bgrewriteaof
EOF
cat > secrets/kairos.toml <<EOF
redis_url = "redis://kairos:$password@valkey:6379/0"
EOF
chmod 0444 secrets/users.acl secrets/kairos.toml
