// Package certs knows the real state of a host's certificate: what every address
// serves, what lies on the disk, when renewal is due and whether it happens. It
// renews with certbot and proves by handshakes that the new certificate is
// served.
//
// It speaks TLS, and HTTP to the CA, by itself. What runs certbot, commands
// nginx, or reads certbot's files is handed in.
package certs
