#!/usr/bin/env bash
# Makes what must not be in a repository: secrets, and a TLS certificate for trying things out.
#
#   ./prepare.sh [NAME]     NAME: what browsers call this computer (default: localhost)
#
# Writes into secrets/ beside this file. What is there already stays: put your own tls.pem and tls.key there before or
# after. The folder is closed to everybody else; the files in it are readable because each container reads its own as
# another user.
set -euo pipefail
cd "$(dirname "$0")"
name=${1:-localhost}
folder=${SECRETS:-secrets}

[[ $name =~ ^[A-Za-z0-9.-]+$ ]] || { echo "prepare.sh: $name is no host name" >&2; exit 2; }
command -v openssl >/dev/null || { echo "prepare.sh: needs openssl" >&2; exit 1; }
mkdir -p -m 0700 "$folder"
chmod 0700 "$folder"

secret() { # one line of its own in a file that nobody but the owner can reach
  [[ -s $folder/$1 ]] || openssl rand -hex 24 >"$folder/$1"
}
secret token
secret pacs-password
secret database-password

fill() { # a template with the secrets in their places
  [[ -s $folder/$1 ]] || sed \
    -e "s/@TOKEN@/$(<"$folder/token")/g" \
    -e "s/@PACS@/$(<"$folder/pacs-password")/g" \
    -e "s/@DATABASE@/$(<"$folder/database-password")/g" "$1" >"$folder/$1"
}
fill pellucid.toml
fill orthanc-access.json

if [[ ! -s $folder/tls.pem ]]; then
  # An authority of one's own, and a certificate of it: for tests, not for a hospital.
  openssl req -x509 -newkey rsa:3072 -sha256 -days 825 -nodes -subj "/CN=Pellucid test authority" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout "$folder/ca.key" -out "$folder/ca.pem" 2>/dev/null
  openssl req -new -newkey rsa:3072 -sha256 -nodes -subj "/CN=$name" \
    -keyout "$folder/tls.key" -out "$folder/tls.csr" 2>/dev/null
  openssl x509 -req -sha256 -days 397 -in "$folder/tls.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" \
    -extfile <(printf '%s\n' "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" "basicConstraints=CA:FALSE" \
      "keyUsage=critical,digitalSignature,keyEncipherment" "extendedKeyUsage=serverAuth") \
    -out "$folder/tls.pem" 2>/dev/null
  rm -f "$folder/tls.csr"
fi

chmod 0644 "$folder"/*
[[ ! -e $folder/ca.key ]] || chmod 0600 "$folder/ca.key"
echo "In $folder/: the token for senders (token), Orthanc's password for admin (pacs-password), the authority that"
echo "browsers must know (ca.pem), and what the containers read."
