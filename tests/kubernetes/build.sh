#!/usr/bin/env bash
# Builds the programs of a Kubernetes control plane (kube-apiserver, kube-controller-manager, kube-scheduler, etcd)
# from their Go modules, into a cache outside the tree, and prints that folder. Does nothing where it is there already.
# The first time takes about fifteen minutes on two cores and 3 GB of Go's own caches; needs Go 1.26.
#
#   KUBEBUILDER_ASSETS=$(tests/kubernetes/build.sh) pytest -m k8s
#
# With --where it only says which folder that is.
set -euo pipefail
cd "$(dirname "$0")/apiserver"

version=$(sed -n 's|^require k8s.io/kubernetes v\([0-9.]*\).*|\1|p' go.mod)
cache="${AFFIANT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/affiant}/kubernetes"
# Named by what it is built from: a changed pin makes another folder.
target="$cache/v$version-$(cat go.mod go.sum | sha256sum | cut -c1-12)"

if [ "${1:-}" = --where ]; then echo "$target"; exit; fi

if [ ! -e "$target/.complete" ]; then
  command -v go > /dev/null || { echo "Go 1.26 is needed to build kube-apiserver: https://go.dev/dl" >&2; exit 1; }
  mkdir -p "$cache"
  # One build at a time, also when two runs begin together; whoever waited finds it done.
  exec 9> "$cache/.lock"
  flock 9
fi
if [ ! -e "$target/.complete" ]; then
  echo "building kube-apiserver $version and what it needs into $target (about fifteen minutes on two cores)" >&2
  minor=${version#1.}
  stamp="-X k8s.io/component-base/version.gitVersion=v$version -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=${minor%%.*} -X k8s.io/component-base/version.gitTreeState=clean"
  mkdir -p "$target"
  build() { echo "  $1" >&2; CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $stamp" -o "$target/$1" "$2" >&2; }
  build etcd go.etcd.io/etcd/server/v3
  build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
  build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
  build kube-scheduler k8s.io/kubernetes/cmd/kube-scheduler
  touch "$target/.complete"
fi
echo "$target"
