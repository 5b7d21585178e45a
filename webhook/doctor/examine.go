package doctor

// Examine makes every check, in the order in which an eviction meets what is looked at.
func Examine(f *Facts) []Finding {
	var l findings
	for _, check := range []func(*Facts, *findings){
		checkServer,
		checkConfiguration,
		checkOwner,
		checkOthers,
		checkService,
		checkCertificate,
		checkWorkload,
		checkSpread,
		checkBudget,
		checkPassing,
		checkReplicas,
		checkClocks,
		checkAccess,
		checkPolicies,
	} {
		check(f, &l)
	}
	return l
}
