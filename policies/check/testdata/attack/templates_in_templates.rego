# METADATA
# title: t
# description: d
# custom:
#   id: templates_in_templates
#   enforcement: enforce
package eviction.templates_in_templates

x := $"{$"{$"{$"{$"{$"{$"{$"{$"{$"{$"{$"{$"{$"{$"{$"{$"{$"{1}"}"}"}"}"}"}"}"}"}"}"}"}"}"}"}"}"}"
deny contains {"reason": "x", "detail": {}} if x
