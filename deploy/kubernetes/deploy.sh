#!/usr/bin/env bash
# deploy.sh OVERLAY IMAGE: bring a cluster to what an overlay says: tables first, then the rest, and wait until it runs.
# The cluster is that of kubectl's configuration, or of KUBECONFIG_DATA (its contents).
set -euo pipefail
overlay=$1 image=$2
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -n "${KUBECONFIG_DATA:-}" ]; then
    (umask 077 && printf '%s' "$KUBECONFIG_DATA" >"$work/kubeconfig")
    export KUBECONFIG="$work/kubeconfig"
fi
cp -R "$here/base" "$here/keda" "$here/overlays" "$work"
cd "$work/overlays/$overlay"
kustomize edit set image "coafi-event-handlers=$image"
namespace="coafi-$overlay"
kustomize build . >"$work/all.yaml"
kubectl apply --filename namespace.yaml
kubectl --namespace "$namespace" delete job coafi-migrate --ignore-not-found
kubectl --namespace "$namespace" apply --filename "$work/all.yaml" --selector app.kubernetes.io/component=migration
kubectl --namespace "$namespace" wait --for=condition=complete --timeout=600s job/coafi-migrate
kubectl apply --filename "$work/all.yaml"
kubectl --namespace "$namespace" rollout status --timeout=900s deployment,statefulset --selector app.kubernetes.io/part-of=coafi
