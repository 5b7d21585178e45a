# METADATA
# title: t
# description: d
# custom:
#   id: texts_replaced
#   enforcement: enforce
package eviction.texts_replaced

s0 := "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
s1 := concat("", [s0, s0])
s2 := concat("", [s1, s1])
s3 := concat("", [s2, s2])
s4 := concat("", [s3, s3])
s5 := concat("", [s4, s4])
s6 := concat("", [s5, s5])
s7 := concat("", [s6, s6])
s8 := concat("", [s7, s7])
s9 := concat("", [s8, s8])
s10 := concat("", [s9, s9])
s11 := concat("", [s10, s10])
s12 := concat("", [s11, s11])
x := replace(s12, "a", s12)
deny contains {"reason": "x", "detail": {}} if x
