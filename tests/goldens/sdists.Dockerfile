# rendered by reprobox: the same image, bit for bit, from the same lock and the same files.
#   SOURCE_DATE_EPOCH=1577836800 docker build .
# (`docker build .` alone gives the same layers; only the image's own date is then that of the build.)
# Behind a TLS-inspecting proxy, or with an index of your own, add (neither leaves a trace in the image):
#   --secret id=ca,src=ca-bundle.crt     the certificates to trust while building
#   --secret id=env,src=build.env        lines NAME=value, such as HTTPS_PROXY or UV_DEFAULT_INDEX
ARG SOURCE_DATE_EPOCH=1577836800

# debian bookworm, assembled from 2 hashed packages (reprobox.lock names them).
FROM scratch AS base
ADD reprobox.base.tar /

# Wheels that are at hand already, where the builder hands some in (--build-context wheels=FOLDER).
FROM scratch AS wheels

# uv 0.13.9, by hash; this stage stays behind.
FROM base AS uv
USER 0:0
RUN --mount=type=bind,source=reprobox.base.tar,target=/reprobox.base.tar \
    echo "3c47ef972d531d524daa15fa33dd885dd23de6221bbd10a29eb42ecfcf2ef422  /reprobox.base.tar" | sha256sum --check --strict --status
RUN --mount=type=secret,id=ca --mount=type=secret,id=env <<EOF
set -eu
if [ -e /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi
if [ -e /run/secrets/env ]; then set -a; . /run/secrets/env; set +a; fi
if [ "${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-}}" ]; then export PIP_INDEX_URL="${UV_DEFAULT_INDEX:-$UV_INDEX_URL}"; fi
/usr/bin/python3.11 -m venv /uv
echo 'uv==0.13.9 --hash=sha256:e6184ce10e266134fdcfa401e8f1a95005bcd4f18d16b62b757323e2833fe9a9' > /uv/requirements.txt
/uv/bin/pip install --quiet --no-deps --no-cache-dir --disable-pip-version-check --require-hashes --requirement /uv/requirements.txt
EOF

# What building packages takes, by hash; this stage stays behind.
FROM base AS build
USER 0:0
RUN --mount=type=secret,id=ca --mount=type=secret,id=env \
    --mount=type=cache,id=reprobox-uv,target=/cache \
    --mount=type=bind,from=uv,source=/uv,target=/uv \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,source=build-requirements.lock,target=/lock/build-requirements.lock <<EOF
set -eu
umask 022
cd /lock
if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi
if [ -e /run/secrets/env ]; then set -a; . /run/secrets/env; set +a; fi
export UV_CACHE_DIR=/cache UV_LINK_MODE=copy UV_NO_CONFIG=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never UV_NO_INSTALLER_METADATA=1
export UV_FIND_LINKS="/wheels${UV_FIND_LINKS:+,$UV_FIND_LINKS}" UV_INDEX_STRATEGY=unsafe-best-match
export UV_FIND_LINKS="$UV_FIND_LINKS",https://links.example/page.html
export UV_EXTRA_INDEX_URL=https://index.example/simple" ${UV_EXTRA_INDEX_URL:-}"
/usr/bin/python3.11 -m venv /build
/uv/bin/uv pip install --python /build/bin/python --no-deps --no-build --require-hashes --requirement build-requirements.lock
EOF

# The sdists, by hash; pip asks each for its metadata, so this stage stays behind too.
FROM build AS sdists
RUN --mount=type=secret,id=ca --mount=type=secret,id=env \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,source=src/lab-1.0.tar.gz,target=/lock/src/lab-1.0.tar.gz \
    --mount=type=bind,source=sdists.lock,target=/lock/sdists.lock <<EOF
set -eu
cd /lock
if [ -e /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi
if [ -e /run/secrets/env ]; then set -a; . /run/secrets/env; set +a; fi
unnamed() { echo "$1" | sed -E 's/(^| )[A-Za-z0-9_.-]+=/\1/g'; }
if [ "${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-}}" ]; then export PIP_INDEX_URL="$(unnamed "${UV_DEFAULT_INDEX:-$UV_INDEX_URL}")"; fi
export PIP_EXTRA_INDEX_URL="$(unnamed "${UV_INDEX:-}") ${UV_EXTRA_INDEX_URL:-}" PIP_TRUSTED_HOST="${UV_INSECURE_HOST:-}"
export PIP_FIND_LINKS="/wheels $(echo "${UV_FIND_LINKS:-}" | tr , ' ')"
export PIP_FIND_LINKS="$PIP_FIND_LINKS "https://links.example/page.html
export PIP_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX_URL "https://index.example/simple
/build/bin/pip download --quiet --no-input --no-deps --no-cache-dir --disable-pip-version-check --no-build-isolation --no-binary :all: \
    --require-hashes --requirement sdists.lock --dest /sdists
EOF

# Their wheels, built without a network from just the bytes that sdists.lock names.
FROM build AS built
ARG SOURCE_DATE_EPOCH
ENV HOME=/tmp/home LC_ALL=C.UTF-8 PATH=/build/bin:$PATH PYTHONHASHSEED=0 TZ=UTC
ENV UV_CACHE_DIR=/tmp/cache UV_LINK_MODE=copy UV_NO_CONFIG=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never UV_NO_INSTALLER_METADATA=1
RUN --network=none \
    --mount=type=bind,from=uv,source=/uv,target=/uv \
    --mount=type=bind,from=sdists,source=/sdists,target=/sdists \
    --mount=type=bind,source=sdists.lock,target=/lock/sdists.lock <<EOF
set -eu
umask 022
for sdist in /sdists/*; do
    grep -q "sha256:$(sha256sum "$sdist" | cut -c 1-64)" /lock/sdists.lock || { echo "$sdist is not what sdists.lock names" >&2; exit 1; }
    python -c 'import shutil, sys; shutil.unpack_archive(sys.argv[1], "/source")' "$sdist"
    /uv/bin/uv build --wheel --force-pep517 --no-build-isolation --offline --python /build/bin/python --out-dir /built /source/*/
    rm -rf /source
done
EOF

# The environment, under the prefix that it will have; every time in it is the epoch.
FROM base AS env
USER 0:0
ARG SOURCE_DATE_EPOCH
RUN --mount=type=secret,id=ca --mount=type=secret,id=env \
    --mount=type=cache,id=reprobox-uv,target=/cache \
    --mount=type=bind,from=uv,source=/uv,target=/uv \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,from=built,source=/built,target=/built \
    --mount=type=bind,source=requirements.lock,target=/lock/requirements.lock <<EOF
set -eu
umask 022
cd /lock
if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi
if [ -e /run/secrets/env ]; then set -a; . /run/secrets/env; set +a; fi
export UV_CACHE_DIR=/cache UV_LINK_MODE=copy UV_NO_CONFIG=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never UV_NO_INSTALLER_METADATA=1
export UV_FIND_LINKS="/wheels${UV_FIND_LINKS:+,$UV_FIND_LINKS}" UV_INDEX_STRATEGY=unsafe-best-match
export UV_FIND_LINKS="$UV_FIND_LINKS",https://links.example/page.html
export UV_EXTRA_INDEX_URL=https://index.example/simple" ${UV_EXTRA_INDEX_URL:-}"
export PYTHONHASHSEED=0 PYC_INVALIDATION_MODE=UNCHECKED_HASH
/uv/bin/uv venv --quiet --relocatable --no-project --python /usr/bin/python3.11 /opt/env
/uv/bin/uv pip install --python /opt/env/bin/python --no-deps --no-build --require-hashes \
    --requirement requirements.lock
/uv/bin/uv pip install --python /opt/env/bin/python --no-deps --offline --no-index --compile-bytecode /built/*.whl
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
tar --create --hard-dereference --directory=/context --exclude=./requirements.lock --exclude=./reprobox.base.tar . | tar --extract --directory=/out/work
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
LABEL io.github.reprobox.base="debian bookworm"
LABEL io.github.reprobox.base.digest="sha256:3c47ef972d531d524daa15fa33dd885dd23de6221bbd10a29eb42ecfcf2ef422"
LABEL io.github.reprobox.lock="sha256:e3148af832d699e2a4ab775b253374b4f37eb11cab9db48d7413829857eb13e3"
LABEL io.github.reprobox.recipe="2"
LABEL io.github.reprobox.version="0.1.0"
USER 1000:1000
WORKDIR /work
ENTRYPOINT []
CMD ["python"]
