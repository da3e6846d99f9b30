// Package services is the storm over the commands that watch and tend the
// platform: recovery tests, certificates, analyses, rotations, shift checks, and
// the rows that cron runs. Its tests are all there is.
package services
