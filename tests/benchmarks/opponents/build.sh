# The rendered Dockerfile beside the same files, with the same secrets, and everything in BuildKit's cache.
docker buildx build --progress=quiet --provenance=false --sbom=false --platform=linux/amd64 \
    --build-arg=SOURCE_DATE_EPOCH="$EPOCH" $SECRETS --tag="$TAG" "$FOLDER"
