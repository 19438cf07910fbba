# rendered by reprobox: the same image, bit for bit, from the same lock and the same files.
#   SOURCE_DATE_EPOCH=1577836800 docker build .
# (`docker build .` alone gives the same layers; only the image's own date is then that of the build.)
# Behind a TLS-inspecting proxy, or with an index of your own, add (neither leaves a trace in the image):
#   --secret id=ca,src=ca-bundle.crt     the certificates to trust while building
#   --secret id=env,src=build.env        lines NAME=value, such as HTTPS_PROXY or UV_DEFAULT_INDEX
ARG SOURCE_DATE_EPOCH=1577836800

FROM registry.example:5000/python@sha256:5861314d7fccb39c2192173240eab44fa35ca66426201ca2acd0630a6258dd51 AS image

# debian packages, by hash and without a network, by the image's own apt. What their scripts
# leave behind of this moment and this machine is taken out: logs, keys, caches, and every time after the epoch.
FROM image AS base
USER 0:0
ARG SOURCE_DATE_EPOCH
RUN --network=none --mount=type=tmpfs,target=/tmp --mount=type=bind,source=reprobox.system,target=/mnt <<EOF
set -eu
umask 022
cd /mnt
sha256sum --check --strict --quiet <<SUMS
9a881b9b9f23849475296a8cd768ea1965bc3152df7118e60c145975af6aa58a  git_1%3a2.39.5-0+deb12u2_amd64.deb
3c6a6a1114f41917b3cc5db99c399550535d657d72a618d8ac2d31eed0fd5fe1  libgomp1_12.2.0-14_amd64.deb
SUMS
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true HOME=/root LC_ALL=C.UTF-8 TZ=UTC
export PERL_HASH_SEED=0 PERL_PERTURB_KEYS=0 PYTHONHASHSEED=0
mkdir -p /tmp/cache/archives/partial /tmp/lists/partial /tmp/log
touch /tmp/before
sleep 0.1
if [ ! -e /usr/sbin/policy-rc.d ]; then
    touch /tmp/policy
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
apt-get install --yes -qq --no-install-recommends --no-remove --allow-change-held-packages \
    -o APT::Sandbox::User=root -o Dir::Cache=/tmp/cache -o Dir::State::lists=/tmp/lists -o Dir::Log=/tmp/log \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null \
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io /mnt/*.deb
if [ -e /tmp/policy ]; then rm /usr/sbin/policy-rc.d; fi
changed() { find "$1" -maxdepth 0 -cnewer /tmp/before 2>/dev/null; }
if [ "$(changed /etc/machine-id)" ]; then : > /etc/machine-id; fi
if [ "$(changed /etc/ssl/certs/java/cacerts)" ]; then
    /usr/bin/python3.11 -I -B /mnt/java_keystore.py /etc/ssl/certs/java/cacerts $SOURCE_DATE_EPOCH
fi
rm -f /etc/ssh/ssh_host_* /etc/ssl/*/ssl-cert-snakeoil.* /etc/aliases.db /var/lib/dbus/machine-id /etc/.pwd.lock \
    /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- \
    /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old
find /var/log -xdev -type f -cnewer /tmp/before -delete
find / -xdev -name '*.pyc' -cnewer /tmp/before \( -name '*.cpython-3?.*' -o -name '*.cpython-310.*' \) -delete
find / -xdev -cnewer /tmp/before -newermt @$SOURCE_DATE_EPOCH -exec touch --no-dereference --date=@$SOURCE_DATE_EPOCH {} +
EOF

# Wheels that are at hand already, where the builder hands some in (--build-context wheels=FOLDER).
FROM scratch AS wheels

# uv 0.13.9, by hash; this stage stays behind.
FROM base AS uv
USER 0:0
RUN --mount=type=secret,id=ca --mount=type=secret,id=env <<EOF
set -eu
if [ -e /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi
if [ -e /run/secrets/env ]; then set -a; . /run/secrets/env; set +a; fi
if [ "${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-}}" ]; then export PIP_INDEX_URL="${UV_DEFAULT_INDEX:-$UV_INDEX_URL}"; fi
/usr/bin/python3.11 -m venv /uv
echo 'uv==0.13.9 --hash=sha256:e6184ce10e266134fdcfa401e8f1a95005bcd4f18d16b62b757323e2833fe9a9' > /uv/requirements.txt
/uv/bin/pip install --quiet --no-deps --no-cache-dir --disable-pip-version-check --require-hashes --requirement /uv/requirements.txt
EOF

# The environment, under the prefix that it will have; every time in it is the epoch.
FROM base AS env
USER 0:0
ARG SOURCE_DATE_EPOCH
RUN --mount=type=secret,id=ca --mount=type=secret,id=env \
    --mount=type=cache,id=reprobox-uv,target=/cache \
    --mount=type=bind,from=uv,source=/uv,target=/uv \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,source=requirements.lock,target=/lock/requirements.lock <<EOF
set -eu
umask 022
cd /lock
if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi
if [ -e /run/secrets/env ]; then set -a; . /run/secrets/env; set +a; fi
export UV_CACHE_DIR=/cache UV_LINK_MODE=copy UV_NO_CONFIG=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never UV_NO_INSTALLER_METADATA=1
export UV_FIND_LINKS="/wheels${UV_FIND_LINKS:+,$UV_FIND_LINKS}" UV_INDEX_STRATEGY=unsafe-best-match
export PYTHONHASHSEED=0 PYC_INVALIDATION_MODE=UNCHECKED_HASH
/uv/bin/uv venv --quiet --relocatable --no-project --python /usr/bin/python3.11 /opt/env
/uv/bin/uv pip install --python /opt/env/bin/python --no-deps --no-build --require-hashes --compile-bytecode \
    --requirement requirements.lock
mkdir -p /out/opt /out/etc /out/home/user
mv /opt/env /out/opt/env
cp /etc/passwd /etc/group /out/etc/
grep -q '^[^:]*:[^:]*:1000:' /etc/group || echo 'user:x:1000:' >> /out/etc/group
grep -q '^[^:]*:[^:]*:1000:' /etc/passwd || echo 'user:x:1000:1000::/home/user:/bin/sh' >> /out/etc/passwd
chown -R 1000:1000 /out/home/user
find /out -exec touch --no-dereference --date=@$SOURCE_DATE_EPOCH {} +
EOF

# The project's files, the same whatever the checkout's umask, owner and times were.
FROM base AS project
USER 0:0
ARG SOURCE_DATE_EPOCH
RUN --mount=type=bind,target=/context <<EOF
set -eu
umask 022
mkdir -p /out/work
tar --create --hard-dereference --directory=/context --exclude=./requirements.lock --exclude=./reprobox.system . | tar --extract --directory=/out/work
find /out -type d -exec chmod 00755 {} +
find /out -type f -perm -100 -exec chmod 00755 {} +
find /out -type f ! -perm -100 -exec chmod 0644 {} +
chown -R --no-dereference 1000:1000 /out/work
find /out -exec touch --no-dereference --date=@$SOURCE_DATE_EPOCH {} +
EOF

FROM base
COPY --from=env /out/ /
COPY --from=project /out/ /
ENV PATH=/opt/env/bin:$PATH
ENV AWKWARD="a \"quoted\" \$dollar \\ backslash"
ENV HOME="/home/user"
ENV LC_ALL="C.UTF-8"
ENV LOGNAME="user"
ENV USER="user"
LABEL io.github.reprobox.lock="sha256:8baf2ec22b5660605927824d0ea49e98ffee6a46884b412289d84d55bf2f7a2e"
LABEL io.github.reprobox.recipe="2"
LABEL io.github.reprobox.version="0.1.0"
LABEL org.opencontainers.image.base.digest="sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6"
LABEL org.opencontainers.image.base.name="registry.example:5000/python:3.11-slim"
USER 1000:1000
WORKDIR /work
ENTRYPOINT []
CMD ["python"]
