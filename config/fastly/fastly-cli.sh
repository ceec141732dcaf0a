#!/bin/sh
# Creates the logging endpoint with the Fastly CLI (12.0.0 or newer), and uploads the VCL in this folder as the main VCL of
# a new version, which is validated but not activated.
#
#   SERVICE_ID=… RELAY_URL=https://relay.example.com/fastly RELAY_TOKEN=… config/fastly/fastly-cli.sh
#
# FASTLY_API_TOKEN is read by the CLI.
set -eu
: "${SERVICE_ID:?id of the Fastly service}" "${RELAY_URL:?address of the fastly receiver}" "${RELAY_TOKEN:?token of the receiver}"

fastly service-version clone --service-id "$SERVICE_ID" --version active

fastly logging https create --service-id "$SERVICE_ID" --version latest \
  --name spanrelay --url "$RELAY_URL" \
  --method POST --content-type application/x-ndjson \
  --header-name Authorization --header-value "Bearer $RELAY_TOKEN" \
  --message-type blank --json-format 2 --placement none \
  --period 5 --compression-codec zstd

fastly vcl custom create --service-id "$SERVICE_ID" --version latest \
  --name spanrelay --content "$(dirname "$0")/spanrelay.vcl" --main

fastly service-version validate --service-id "$SERVICE_ID" --version latest
