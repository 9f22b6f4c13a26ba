#!/bin/sh
# The namespace with its search attributes; what is there already is left alone.
set -eu
until temporal operator cluster health; do sleep 2; done
temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 30d
# The server knows a new namespace everywhere only after some seconds.
until temporal operator search-attribute list --namespace "$TEMPORAL_NAMESPACE"; do sleep 2; done
for name in CoafiPhase CoafiEventId CoafiEventType CoafiSource CoafiUTidS; do
    temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --type Keyword --name "$name"
done
