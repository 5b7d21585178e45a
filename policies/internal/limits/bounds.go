package limits

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// unlimited are the builtins whose cost does not depend on their operands.
var unlimited = names("is_array is_boolean is_null is_number is_object is_set is_string type_name time.now_ns trace " +
	"rego.metadata.chain rego.metadata.rule assign eq")

func names(list string) map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Fields(list) {
		set[name] = true
	}
	return set
}

// bounds are the limits of builtins that need more than a charge by the size of their operands.
var bounds = func() map[string]bound {
	table := map[string]bound{}
	for _, of := range boundsInGroups {
		for _, name := range strings.Fields(of.names) {
			table[name] = of.bound
		}
	}
	return table
}()

// boundsInGroups is bounds as docs/limits.md tells it.
var boundsInGroups = []struct {
	names string
	bound bound
}{
	{"count array.slice array.reverse object.keys", bound{charge: (*call).shallow}},
	{"object.get", bound{charge: gets}},
	{"internal.member_2 internal.member_3", bound{charge: looksFor, says: comparisons}},
	{"lt lte gt gte neq equal", bound{charge: comparesTwo}},
	{"object.subset", bound{charge: subsets, says: comparisons}},
	{"indexof", bound{charge: searches, says: comparisons + ", for text beyond ASCII"}},
	{"indexof_n", bound{charge: searchesAll, says: lengthOfList}},
	{"trim trim_left trim_right", bound{charge: cuts, says: comparisons}},
	{"concat", bound{charge: concatenates, says: lengthOfText}},
	{"replace", bound{charge: replaces, says: lengthOfText}},
	{"strings.replace_n", bound{charge: replacesAll, checked: true, says: lengthOfText}},
	{"regex.replace", bound{charge: substitutes, checked: true, says: lengthOfText + "; " + patterns}},
	{"sprintf", bound{charge: formats, checked: true, says: lengthOfText + ", widths and precisions included"}},
	{"lower upper strings.reverse base64.encode base64url.encode base64url.encode_no_pad hex.encode urlquery.encode urlquery.encode_object glob.quote_meta time.format json.marshal internal.template_string format_int substring trim_space base64.decode base64url.decode hex.decode urlquery.decode",
		bound{charge: grows(6, 8), checked: true, says: lengthOfText}},
	{"yaml.marshal json.marshal_with_options", bound{charge: marshals, checked: true, says: lengthOfText + ", indentation included"}},
	{"split strings.split_n", bound{charge: splits, says: lengthOfList}},
	{"array.concat", bound{charge: joins, says: lengthOfList}},
	{"array.flatten and or set_diff union intersection object.union object.union_n object.remove object.filter json.filter json.remove sort graph.reachable urlquery.decode_object uri.parse net.cidr_merge",
		bound{charge: lists, says: "what it makes counts"}},
	{"plus mul div rem abs round ceil floor sum bits.and bits.or bits.xor bits.negate bits.rsh time.add_date time.diff minus", bound{charge: numbers, checked: true, says: digitsOfNumber}},
	{"product", bound{charge: multiplies, checked: true, says: fmt.Sprintf("%d digits in sum; ", 10*MaxDigits) + digitsOfNumber}},
	{"bits.lsh", bound{charge: shifts, checked: true, says: fmt.Sprintf("%d bits", maxBits)}},
	{"to_number units.parse units.parse_bytes", bound{charge: readsNumber, checked: true, says: digitsOfNumber}},
	{"numbers.range numbers.range_step", bound{charge: ranges, says: lengthOfList}},
	{"json.unmarshal json.is_valid", bound{charge: parses, checked: true, says: lengthOfParsed}},
	{"yaml.unmarshal yaml.is_valid", bound{charge: parsesYAML, checked: true, says: lengthOfParsed + "; no aliases"}},
	{"json.patch", bound{charge: patches, checked: true, says: "copies of copies; " + wholeValue}},
	{"walk", bound{charge: walks, says: "a path for each value counts"}},
	{"regex.match re_match", bound{charge: matches(0, 1), says: patterns}},
	{"regex.is_valid", bound{charge: matches(0, -1), says: patterns}},
	{"regex.split regex.find_n regex.find_all_string_submatch_n", bound{charge: finds(0, 1), says: patterns + "; " + lengthOfList}},
	{"glob.match", bound{charge: globMatches, says: fmt.Sprintf("a pattern of %d bytes; %s", maxPattern, comparisons)}},
	{"print internal.print net.cidr_contains_matches", bound{charge: crosses, says: "what is combined counts"}},
	{"net.cidr_expand", bound{charge: expands, says: "65536 addresses"}},
}

// What the limits are called in docs/limits.md.
var (
	lengthOfText   = "a text of " + rego.SizeText(maxText)
	lengthOfList   = fmt.Sprintf("a list of %d members", MaxNodes)
	digitsOfNumber = fmt.Sprintf("a number of %d digits, exponent at most %d", MaxDigits, MaxDigits)
	comparisons    = fmt.Sprintf("%d comparisons", maxMatching)
	patterns       = fmt.Sprintf("a pattern of %d bytes, %d with its repetitions written out, and %d comparisons", maxPattern, maxProgram, maxMatching)
	lengthOfParsed = "a text of " + rego.SizeText(maxParsed)
	wholeValue     = fmt.Sprintf("a value of %d values", MaxNodes)
)

// left are the deterministic builtins that policies cannot use, and why.
var left = []struct{ names, why string }{
	{"graph.reachable_paths", "it makes every path, of which there may be more than atoms"},
	{"strings.render_template", "a template can loop for ever; write a template string"},
	{"rego.parse_module", "it takes as long as a compiler"},
	{"regex.globs_match regex.template_match", "its time grows faster than its patterns"},
	{"json.match_schema json.verify_schema", "a schema that refers to itself ends the program"},
	{"graphql.is_valid graphql.parse graphql.parse_and_verify graphql.parse_query graphql.parse_schema graphql.schema_is_valid", "an eviction has no GraphQL, and its parser is not bounded"},
	{"crypto.x509.parse_certificates crypto.x509.parse_certificate_request crypto.x509.parse_and_verify_certificates crypto.x509.parse_and_verify_certificates_with_options crypto.x509.parse_keypair crypto.x509.parse_rsa_private_key crypto.parse_private_keys", certificates},
	{"io.jwt.decode io.jwt.decode_verify io.jwt.encode_sign io.jwt.encode_sign_raw io.jwt.verify_eddsa io.jwt.verify_es256 io.jwt.verify_es384 io.jwt.verify_es512 io.jwt.verify_hs256 io.jwt.verify_hs384 io.jwt.verify_hs512 io.jwt.verify_ps256 io.jwt.verify_ps384 io.jwt.verify_ps512 io.jwt.verify_rs256 io.jwt.verify_rs384 io.jwt.verify_rs512", certificates},
	{"providers.aws.sign_req", "there is no network to sign for"},
}

const certificates = "an eviction has no certificates or tokens, and a large key takes seconds"

// LeftOut says why policies cannot use a builtin; empty when they can.
func LeftOut(b *ast.Builtin) string {
	if b.IsNondeterministic() && b.Name != ast.NowNanos.Name {
		return "a decision must not depend on the network, the environment or chance"
	}
	return leftByName[b.Name]
}

var leftByName = func() map[string]string {
	table := map[string]string{}
	for _, group := range left {
		for _, name := range strings.Fields(group.names) {
			table[name] = group.why
		}
	}
	return table
}()
