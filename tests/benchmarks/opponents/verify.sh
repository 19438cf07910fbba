# The experiment's command in the same image, sealed and limited as reprobox seals and limits it.
docker run --rm --log-driver=none --network=none --read-only --init \
    --hostname=reprobox --workdir=/work --volume=/work \
    --tmpfs=/tmp:rw,exec,nosuid,nodev,size="$MEMORY",mode=1777 \
    --tmpfs=/var/tmp:rw,exec,nosuid,nodev,size="$MEMORY",mode=1777 \
    --tmpfs=/home/user:rw,exec,nosuid,nodev,size="$MEMORY",mode=0700,uid=1000,gid=1000 \
    --dns=127.0.0.1 --dns-search=. --dns-option=ndots:1 --ulimit=nofile=4096:4096 --ulimit=core=0:0 \
    --cap-drop=ALL --security-opt=no-new-privileges:true --pids-limit=4096 --shm-size=1g \
    --cpuset-cpus="$CPUS" --memory="$MEMORY" --memory-swap="$MEMORY" \
    --label=io.github.reprobox.run=1 --label=io.github.reprobox.cpus="$CPUS" \
    "$IMAGE" $COMMAND
