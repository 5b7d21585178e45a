# METADATA
# title: Freeze evictions in time windows
# description: |
#   Delays evictions while a window is open. It holds nothing until it is bound with windows. A window
#   is weekly (weekdays, and a time of day in `from` and `to`) or absolute (an instant in `from`,
#   `until` or both), and may be limited to some evictors and namespaces. A window that cannot be read
#   is refused.
# related_resources:
#   - description: Time zones by name
#     ref: https://en.wikipedia.org/wiki/List_of_tz_database_time_zones
#   - description: API-initiated Eviction
#     ref: https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
# custom:
#   id: freeze_window
#   enforcement: enforce
#   parameters:
#     windows:
#       type: array
#       default: []
#       description: when evictions are held
#       items:
#         type: object
#         additionalProperties: false
#         properties:
#           name:
#             type: string
#             minLength: 1
#             description: how messages call the window; its place in the list, from 1, by default
#           weekdays:
#             type: array
#             minItems: 1
#             items: {type: string}
#             description: the days on which a weekly window begins, such as Mon or Monday; every day by default
#           from:
#             type: string
#             description: when a weekly window begins, as 22:00, or an absolute one, as 2027-01-02T08:00:00+01:00; at midnight by default
#           to:
#             type: string
#             pattern: ^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$
#             description: when a weekly window ends, as 06:00; on the next day when it is not later than from; 24:00 by default
#           until:
#             type: string
#             description: when an absolute window ends, as 2027-01-02T08:00:00+01:00; never by default
#           time_zone:
#             type: string
#             description: the zone in which weekdays and times of day count, as Europe/Berlin; UTC by default
#           evictors:
#             type: array
#             items: {type: string}
#             description: the evictors it holds, as in input.request.evictor; all by default
#           namespaces:
#             type: array
#             items: {type: string}
#             description: the namespaces in which it holds, by name or by a beginning such as shop-*; all by default
package eviction.freeze_window

delay contains {"reason": reason, "detail": {"window": name, "open": when}} if {
	some window in _open
	strings.any_prefix_match($"{input.request.evictor}/", window.evictors)
	strings.any_prefix_match($"{input.request.namespace}/", window.namespaces)
	name := window.name
	when := window.when
	reason := $"freeze window {name} ({when}) holds evictions by {input.request.evictor} in namespace {input.request.namespace}; try again after it, or change parameter windows"
}

invalid_parameters contains $"freeze window {_name(window, i)} never opens: it needs weekdays, from, to or until" if {
	some i, window in input.parameters.windows
	object.keys(window) & {"weekdays", "from", "to", "until"} == set()
}

invalid_parameters contains $"freeze window {_name(window, i)} begins at {from}, which is neither a time of day such as 22:00 nor an instant such as 2027-01-02T08:00:00+01:00" if {
	some i, window in input.parameters.windows
	from := window.from
	not _clock(from)
	not _instant(from)
}

invalid_parameters contains $"freeze window {_name(window, i)} lasts until {until}, which is not an instant such as 2027-01-02T08:00:00+01:00" if {
	some i, window in input.parameters.windows
	until := window.until
	not _instant(until)
}

invalid_parameters contains $"freeze window {_name(window, i)} has weekday {day}, which is none; write it as Mon or Monday" if {
	some i, window in input.parameters.windows
	some day in window.weekdays
	not _weekday(day)
}

invalid_parameters contains $"freeze window {_name(window, i)} has time zone {zone}, which is not known; name one such as Europe/Berlin" if {
	some i, window in input.parameters.windows
	zone := window.time_zone
	not _zone(zone)
}

invalid_parameters contains $"freeze window {_name(window, i)} is absolute, by an instant in from or until, and cannot have {key}" if {
	some i, window in input.parameters.windows
	_absolute(window)
	some key in ["weekdays", "to", "time_zone"]
	window[key]
}

invalid_parameters contains $"freeze window {_name(window, i)} lasts until an instant, but begins at a time of day, {from}; give from as an instant, or to instead of until" if {
	some i, window in input.parameters.windows
	window.until
	from := window.from
	_clock(from)
}

invalid_parameters contains $"freeze window {_name(window, i)} ends before it begins, so it never opens" if {
	some i, window in input.parameters.windows
	_instant(window.from)
	_instant(window.until)
	time.parse_rfc3339_ns(window.from) >= time.parse_rfc3339_ns(window.until)
}

_open contains window if {
	some window in _absolute_windows
	now := time.now_ns()
	window.begin <= now
	now < window.end
}

_open contains span.window if {
	some zone, spans in _weekly_spans
	at := [time.now_ns(), zone]
	[hour, minute, _] := time.clock(at)
	clock := (hour * 60) + minute
	some span in spans
	span.from <= clock
	clock < span.to
	time.weekday(at) in span.days
}

# All that follows from the parameters alone stands in rules of its own: evictgate evaluates them once,
# not in every review.
_absolute_windows := [object.union(_window(window, i), {"begin": begin, "end": end}) |
	some i, window in input.parameters.windows
	_absolute(window)
	begin := time.parse_rfc3339_ns(object.get(window, "from", "2000-01-01T00:00:00Z"))
	end := time.parse_rfc3339_ns(object.get(window, "until", "2199-01-01T00:00:00Z"))
]

# Weekly windows by their time zones, so that there is one look at each clock.
_weekly_spans := {zone: spans |
	some zone in {_time_zone(window) | some window in input.parameters.windows; not _absolute(window)}
	spans := [object.union({"window": _window(window, i)}, span) |
		some i, window in input.parameters.windows
		not _absolute(window)
		_time_zone(window) == zone
		some span in _spans(window)
	]
}

_window(window, i) := {
	"name": _name(window, i),
	"when": _when(window),
	"evictors": ({$"{name}/" | some name in object.get(window, "evictors", [])} | _all(window, "evictors")),
	"namespaces": ({_beginning(name) | some name in object.get(window, "namespaces", [])} | _all(window, "namespaces")),
}

# Names are compared as beginnings of the name with a slash, which no name contains.
_beginning(name) := trim_suffix(name, "*") if endswith(name, "*")

_beginning(name) := $"{name}/" if not endswith(name, "*")

# Every name has the empty beginning.
_all(window, key) := {""} if not window[key]

_all(window, key) := set() if window[key]

_spans(window) := [{"days": _days(window), "from": from, "to": to}] if {
	[from, to] := _minutes(window)
	from < to
}

# A window across midnight is one until it and one from it.
_spans(window) := [evening, morning] if {
	[from, to] := _minutes(window)
	from >= to
	evening := {"days": _days(window), "from": from, "to": 1440}
	morning := {"days": {_day_after[day] | some day in _days(window)}, "from": 0, "to": to}
}

_minutes(window) := [_minute(clock) | some clock in _times(window)]

# The minute of the day: 22:00 is 22h00m after midnight.
_minute(clock) := time.parse_duration_ns($"{replace(clock, ":", "h")}m") / 60000000000

_name(window, _) := window.name

_name(window, i) := i + 1 if not window.name

_absolute(window) if window.until

_absolute(window) if _instant(window.from)

_clock(x) if regex.match(`^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`, x)

# An RFC 3339 instant of the years 2000 to 2199 that time.parse_rfc3339_ns takes: every month has its
# own number of days.
_instant(x) if {
	date := `2[01][0-9]{2}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))`
	leap := `2[01](0[48]|[2468][048]|[13579][26])-02-29`
	clock := `T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])`
	regex.match($"^({date}|{leap}){clock}$", x)
}

# A name that time.clock takes.
_zone(x) if {
	regex.match(`^[A-Za-z0-9_+/-]+$`, x)
	contains(_zones, $",{x},")
}

_time_zone(window) := object.get(window, "time_zone", "UTC")

_times(window) := [object.get(window, "from", "00:00"), object.get(window, "to", "24:00")]

_days(window) := {_weekday(day) | some day in object.get(window, "weekdays", _week)}

_week := ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

_day_after := {day: _week[(i + 1) % 7] | some i, day in _week}

_weekday(x) := day if {
	some day in _week
	lower(x) in {lower(day), lower(substring(day, 0, 3))}
}

_when(window) := $"{_times(window)[0]} to {_times(window)[1]} {_time_zone(window)}, {days}" if {
	not _absolute(window)
	days := concat(" ", [substring(day, 0, 3) | some day in _week; day in _days(window)])
}

_when(window) := concat(" ", [$"{key} {window[key]}" | some key in ["from", "until"]; window[key]]) if {
	_absolute(window)
}

# The names of the time zones, each between commas. Any other makes time.clock fail, and with it the
# policy, which would delay every eviction.
_zones := `
,Africa/Abidjan,Africa/Accra,Africa/Addis_Ababa,Africa/Algiers,Africa/Asmara,Africa/Asmera,Africa/Bamako,
,Africa/Bangui,Africa/Banjul,Africa/Bissau,Africa/Blantyre,Africa/Brazzaville,Africa/Bujumbura,Africa/Cairo,
,Africa/Casablanca,Africa/Ceuta,Africa/Conakry,Africa/Dakar,Africa/Dar_es_Salaam,Africa/Djibouti,Africa/Douala,
,Africa/El_Aaiun,Africa/Freetown,Africa/Gaborone,Africa/Harare,Africa/Johannesburg,Africa/Juba,Africa/Kampala,
,Africa/Khartoum,Africa/Kigali,Africa/Kinshasa,Africa/Lagos,Africa/Libreville,Africa/Lome,Africa/Luanda,
,Africa/Lubumbashi,Africa/Lusaka,Africa/Malabo,Africa/Maputo,Africa/Maseru,Africa/Mbabane,Africa/Mogadishu,
,Africa/Monrovia,Africa/Nairobi,Africa/Ndjamena,Africa/Niamey,Africa/Nouakchott,Africa/Ouagadougou,Africa/Porto-Novo,
,Africa/Sao_Tome,Africa/Timbuktu,Africa/Tripoli,Africa/Tunis,Africa/Windhoek,America/Adak,America/Anchorage,
,America/Anguilla,America/Antigua,America/Araguaina,America/Argentina/Buenos_Aires,America/Argentina/Catamarca,
,America/Argentina/ComodRivadavia,America/Argentina/Cordoba,America/Argentina/Jujuy,America/Argentina/La_Rioja,
,America/Argentina/Mendoza,America/Argentina/Rio_Gallegos,America/Argentina/Salta,America/Argentina/San_Juan,
,America/Argentina/San_Luis,America/Argentina/Tucuman,America/Argentina/Ushuaia,America/Aruba,America/Asuncion,
,America/Atikokan,America/Atka,America/Bahia,America/Bahia_Banderas,America/Barbados,America/Belem,America/Belize,
,America/Blanc-Sablon,America/Boa_Vista,America/Bogota,America/Boise,America/Buenos_Aires,America/Cambridge_Bay,
,America/Campo_Grande,America/Cancun,America/Caracas,America/Catamarca,America/Cayenne,America/Cayman,America/Chicago,
,America/Chihuahua,America/Ciudad_Juarez,America/Coral_Harbour,America/Cordoba,America/Costa_Rica,America/Coyhaique,
,America/Creston,America/Cuiaba,America/Curacao,America/Danmarkshavn,America/Dawson,America/Dawson_Creek,
,America/Denver,America/Detroit,America/Dominica,America/Edmonton,America/Eirunepe,America/El_Salvador,
,America/Ensenada,America/Fort_Nelson,America/Fort_Wayne,America/Fortaleza,America/Glace_Bay,America/Godthab,
,America/Goose_Bay,America/Grand_Turk,America/Grenada,America/Guadeloupe,America/Guatemala,America/Guayaquil,
,America/Guyana,America/Halifax,America/Havana,America/Hermosillo,America/Indiana/Indianapolis,America/Indiana/Knox,
,America/Indiana/Marengo,America/Indiana/Petersburg,America/Indiana/Tell_City,America/Indiana/Vevay,
,America/Indiana/Vincennes,America/Indiana/Winamac,America/Indianapolis,America/Inuvik,America/Iqaluit,
,America/Jamaica,America/Jujuy,America/Juneau,America/Kentucky/Louisville,America/Kentucky/Monticello,America/Knox_IN,
,America/Kralendijk,America/La_Paz,America/Lima,America/Los_Angeles,America/Louisville,America/Lower_Princes,
,America/Maceio,America/Managua,America/Manaus,America/Marigot,America/Martinique,America/Matamoros,America/Mazatlan,
,America/Mendoza,America/Menominee,America/Merida,America/Metlakatla,America/Mexico_City,America/Miquelon,
,America/Moncton,America/Monterrey,America/Montevideo,America/Montreal,America/Montserrat,America/Nassau,
,America/New_York,America/Nipigon,America/Nome,America/Noronha,America/North_Dakota/Beulah,
,America/North_Dakota/Center,America/North_Dakota/New_Salem,America/Nuuk,America/Ojinaga,America/Panama,
,America/Pangnirtung,America/Paramaribo,America/Phoenix,America/Port-au-Prince,America/Port_of_Spain,
,America/Porto_Acre,America/Porto_Velho,America/Puerto_Rico,America/Punta_Arenas,America/Rainy_River,
,America/Rankin_Inlet,America/Recife,America/Regina,America/Resolute,America/Rio_Branco,America/Rosario,
,America/Santa_Isabel,America/Santarem,America/Santiago,America/Santo_Domingo,America/Sao_Paulo,America/Scoresbysund,
,America/Shiprock,America/Sitka,America/St_Barthelemy,America/St_Johns,America/St_Kitts,America/St_Lucia,
,America/St_Thomas,America/St_Vincent,America/Swift_Current,America/Tegucigalpa,America/Thule,America/Thunder_Bay,
,America/Tijuana,America/Toronto,America/Tortola,America/Vancouver,America/Virgin,America/Whitehorse,America/Winnipeg,
,America/Yakutat,America/Yellowknife,Antarctica/Casey,Antarctica/Davis,Antarctica/DumontDUrville,Antarctica/Macquarie,
,Antarctica/Mawson,Antarctica/McMurdo,Antarctica/Palmer,Antarctica/Rothera,Antarctica/South_Pole,Antarctica/Syowa,
,Antarctica/Troll,Antarctica/Vostok,Arctic/Longyearbyen,Asia/Aden,Asia/Almaty,Asia/Amman,Asia/Anadyr,Asia/Aqtau,
,Asia/Aqtobe,Asia/Ashgabat,Asia/Ashkhabad,Asia/Atyrau,Asia/Baghdad,Asia/Bahrain,Asia/Baku,Asia/Bangkok,Asia/Barnaul,
,Asia/Beirut,Asia/Bishkek,Asia/Brunei,Asia/Calcutta,Asia/Chita,Asia/Choibalsan,Asia/Chongqing,Asia/Chungking,
,Asia/Colombo,Asia/Dacca,Asia/Damascus,Asia/Dhaka,Asia/Dili,Asia/Dubai,Asia/Dushanbe,Asia/Famagusta,Asia/Gaza,
,Asia/Harbin,Asia/Hebron,Asia/Ho_Chi_Minh,Asia/Hong_Kong,Asia/Hovd,Asia/Irkutsk,Asia/Istanbul,Asia/Jakarta,
,Asia/Jayapura,Asia/Jerusalem,Asia/Kabul,Asia/Kamchatka,Asia/Karachi,Asia/Kashgar,Asia/Kathmandu,Asia/Katmandu,
,Asia/Khandyga,Asia/Kolkata,Asia/Krasnoyarsk,Asia/Kuala_Lumpur,Asia/Kuching,Asia/Kuwait,Asia/Macao,Asia/Macau,
,Asia/Magadan,Asia/Makassar,Asia/Manila,Asia/Muscat,Asia/Nicosia,Asia/Novokuznetsk,Asia/Novosibirsk,Asia/Omsk,
,Asia/Oral,Asia/Phnom_Penh,Asia/Pontianak,Asia/Pyongyang,Asia/Qatar,Asia/Qostanay,Asia/Qyzylorda,Asia/Rangoon,
,Asia/Riyadh,Asia/Saigon,Asia/Sakhalin,Asia/Samarkand,Asia/Seoul,Asia/Shanghai,Asia/Singapore,Asia/Srednekolymsk,
,Asia/Taipei,Asia/Tashkent,Asia/Tbilisi,Asia/Tehran,Asia/Tel_Aviv,Asia/Thimbu,Asia/Thimphu,Asia/Tokyo,Asia/Tomsk,
,Asia/Ujung_Pandang,Asia/Ulaanbaatar,Asia/Ulan_Bator,Asia/Urumqi,Asia/Ust-Nera,Asia/Vientiane,Asia/Vladivostok,
,Asia/Yakutsk,Asia/Yangon,Asia/Yekaterinburg,Asia/Yerevan,Atlantic/Azores,Atlantic/Bermuda,Atlantic/Canary,
,Atlantic/Cape_Verde,Atlantic/Faeroe,Atlantic/Faroe,Atlantic/Jan_Mayen,Atlantic/Madeira,Atlantic/Reykjavik,
,Atlantic/South_Georgia,Atlantic/St_Helena,Atlantic/Stanley,Australia/ACT,Australia/Adelaide,Australia/Brisbane,
,Australia/Broken_Hill,Australia/Canberra,Australia/Currie,Australia/Darwin,Australia/Eucla,Australia/Hobart,
,Australia/LHI,Australia/Lindeman,Australia/Lord_Howe,Australia/Melbourne,Australia/NSW,Australia/North,
,Australia/Perth,Australia/Queensland,Australia/South,Australia/Sydney,Australia/Tasmania,Australia/Victoria,
,Australia/West,Australia/Yancowinna,Brazil/Acre,Brazil/DeNoronha,Brazil/East,Brazil/West,CET,CST6CDT,Canada/Atlantic,
,Canada/Central,Canada/Eastern,Canada/Mountain,Canada/Newfoundland,Canada/Pacific,Canada/Saskatchewan,Canada/Yukon,
,Chile/Continental,Chile/EasterIsland,Cuba,EET,EST,EST5EDT,Egypt,Eire,Etc/GMT,Etc/GMT+0,Etc/GMT+1,Etc/GMT+10,
,Etc/GMT+11,Etc/GMT+12,Etc/GMT+2,Etc/GMT+3,Etc/GMT+4,Etc/GMT+5,Etc/GMT+6,Etc/GMT+7,Etc/GMT+8,Etc/GMT+9,Etc/GMT-0,
,Etc/GMT-1,Etc/GMT-10,Etc/GMT-11,Etc/GMT-12,Etc/GMT-13,Etc/GMT-14,Etc/GMT-2,Etc/GMT-3,Etc/GMT-4,Etc/GMT-5,Etc/GMT-6,
,Etc/GMT-7,Etc/GMT-8,Etc/GMT-9,Etc/GMT0,Etc/Greenwich,Etc/UCT,Etc/UTC,Etc/Universal,Etc/Zulu,Europe/Amsterdam,
,Europe/Andorra,Europe/Astrakhan,Europe/Athens,Europe/Belfast,Europe/Belgrade,Europe/Berlin,Europe/Bratislava,
,Europe/Brussels,Europe/Bucharest,Europe/Budapest,Europe/Busingen,Europe/Chisinau,Europe/Copenhagen,Europe/Dublin,
,Europe/Gibraltar,Europe/Guernsey,Europe/Helsinki,Europe/Isle_of_Man,Europe/Istanbul,Europe/Jersey,Europe/Kaliningrad,
,Europe/Kiev,Europe/Kirov,Europe/Kyiv,Europe/Lisbon,Europe/Ljubljana,Europe/London,Europe/Luxembourg,Europe/Madrid,
,Europe/Malta,Europe/Mariehamn,Europe/Minsk,Europe/Monaco,Europe/Moscow,Europe/Nicosia,Europe/Oslo,Europe/Paris,
,Europe/Podgorica,Europe/Prague,Europe/Riga,Europe/Rome,Europe/Samara,Europe/San_Marino,Europe/Sarajevo,
,Europe/Saratov,Europe/Simferopol,Europe/Skopje,Europe/Sofia,Europe/Stockholm,Europe/Tallinn,Europe/Tirane,
,Europe/Tiraspol,Europe/Ulyanovsk,Europe/Uzhgorod,Europe/Vaduz,Europe/Vatican,Europe/Vienna,Europe/Vilnius,
,Europe/Volgograd,Europe/Warsaw,Europe/Zagreb,Europe/Zaporozhye,Europe/Zurich,GB,GB-Eire,GMT,GMT+0,GMT-0,GMT0,
,Greenwich,HST,Hongkong,Iceland,Indian/Antananarivo,Indian/Chagos,Indian/Christmas,Indian/Cocos,Indian/Comoro,
,Indian/Kerguelen,Indian/Mahe,Indian/Maldives,Indian/Mauritius,Indian/Mayotte,Indian/Reunion,Iran,Israel,Jamaica,
,Japan,Kwajalein,Libya,MET,MST,MST7MDT,Mexico/BajaNorte,Mexico/BajaSur,Mexico/General,NZ,NZ-CHAT,Navajo,PRC,PST8PDT,
,Pacific/Apia,Pacific/Auckland,Pacific/Bougainville,Pacific/Chatham,Pacific/Chuuk,Pacific/Easter,Pacific/Efate,
,Pacific/Enderbury,Pacific/Fakaofo,Pacific/Fiji,Pacific/Funafuti,Pacific/Galapagos,Pacific/Gambier,
,Pacific/Guadalcanal,Pacific/Guam,Pacific/Honolulu,Pacific/Johnston,Pacific/Kanton,Pacific/Kiritimati,Pacific/Kosrae,
,Pacific/Kwajalein,Pacific/Majuro,Pacific/Marquesas,Pacific/Midway,Pacific/Nauru,Pacific/Niue,Pacific/Norfolk,
,Pacific/Noumea,Pacific/Pago_Pago,Pacific/Palau,Pacific/Pitcairn,Pacific/Pohnpei,Pacific/Ponape,Pacific/Port_Moresby,
,Pacific/Rarotonga,Pacific/Saipan,Pacific/Samoa,Pacific/Tahiti,Pacific/Tarawa,Pacific/Tongatapu,Pacific/Truk,
,Pacific/Wake,Pacific/Wallis,Pacific/Yap,Poland,Portugal,ROC,ROK,Singapore,Turkey,UCT,US/Alaska,US/Aleutian,
,US/Arizona,US/Central,US/East-Indiana,US/Eastern,US/Hawaii,US/Indiana-Starke,US/Michigan,US/Mountain,US/Pacific,
,US/Samoa,UTC,Universal,W-SU,WET,Zulu,
`
