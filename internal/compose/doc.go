// Package compose finds the containers of a Docker Compose project through the
// Docker API and works inside them: it runs commands that end when their caller
// does, and it tunnels connections to servers that publish no port.
//
// It needs neither the compose file nor the docker or docker-compose programs:
// the labels that Compose v1 and v2 put on containers name project and service.
package compose
