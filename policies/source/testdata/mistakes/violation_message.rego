package eviction.x

delay contains violation if {
	violation := {"message": "held"}
}
