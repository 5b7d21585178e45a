// Package listen serves HTTP within bounds, for every listener of Evictgate alike: whoever reaches a port may
// open connections and send bytes, but they take a limited amount of memory and time, and do not keep those out
// who have the same right to call.
//
// A listener has a number of connections. When it is reached, a new one takes the place of another: the address
// that holds most gives one up, first one whose handshake or first header has not arrived, then an idle one, then
// one whose request is still arriving. What is being answered is never given up.
package listen
