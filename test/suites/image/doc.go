// Package image holds the image of `make image` to what it promises: what is in it, that it runs as its user on a
// file system that cannot be written, and that building it twice gives the same image.
package image
