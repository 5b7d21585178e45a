package doctor

// Examine makes every check, in the order in which an eviction meets what is looked at.
func Examine(f *Facts) []Finding {
	var l findings
	for _, check := range []func(*Facts, *findings){
		checkServer,
		checkConfiguration,
		checkOwner,
		checkForeign,
		checkOthers,
		checkStrangers,
		checkService,
		checkCertificate,
		checkCallers,
		checkWorkload,
		checkSpread,
		checkBudget,
		checkPassing,
		checkReplicas,
		checkClocks,
		checkAccess,
		checkBeyond,
		checkHeld,
		checkWriters,
		checkPolicies,
		checkTime,
	} {
		check(f, &l)
	}
	return l
}

// checkTime: nothing may be wrong with what was not looked at.
func checkTime(f *Facts, l *findings) {
	if f.Late {
		l.warn("timeout", "time ran out before everything was asked; what is missing is not checked").cure("raise --timeout")
	}
}
