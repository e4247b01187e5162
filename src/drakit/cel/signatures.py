"""The functions of CEL as text, one line per overload: `name(argument, ...) -> result = overload id`.

A leading dot makes it a method of the first argument; A, B and T are type parameters. Overload ids are
cel-go's and Kubernetes', because the cost model goes by them.

Source: cel-go's standard library and extensions, k8s.io/apiserver/pkg/cel/{library,environment} and
k8s.io/dynamic-resource-allocation/cel.
"""

from __future__ import annotations

COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_SHORT = {"int": "int64", "uint": "uint64"}
_COMPARED: dict[str, tuple[str, ...]] = {
    "bool": (), "int": ("double", "uint"), "uint": ("double", "int"), "double": ("int", "uint"), "string": (),
    "bytes": (), "timestamp": (), "duration": (),
}  # fmt: skip
"""What `<` and its like take on the left, each also with these others on the right."""
_QUALIFIED = {"duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}

STANDARD = """
_?_:_(bool, A, A) -> A = conditional
_&&_(bool, bool) -> bool = logical_and
_||_(bool, bool) -> bool = logical_or
!_(bool) -> bool = logical_not
@not_strictly_false(bool) -> bool = not_strictly_false
_==_(A, A) -> bool = equals
_!=_(A, A) -> bool = not_equals
-_(double) -> double = negate_double
-_(int) -> int = negate_int64
_+_(bytes, bytes) -> bytes = add_bytes
_+_(double, double) -> double = add_double
_+_(duration, duration) -> duration = add_duration_duration
_+_(duration, timestamp) -> timestamp = add_duration_timestamp
_+_(timestamp, duration) -> timestamp = add_timestamp_duration
_+_(int, int) -> int = add_int64
_+_(list(A), list(A)) -> list(A) = add_list
_+_(string, string) -> string = add_string
_+_(uint, uint) -> uint = add_uint64
_-_(double, double) -> double = subtract_double
_-_(duration, duration) -> duration = subtract_duration_duration
_-_(int, int) -> int = subtract_int64
_-_(timestamp, duration) -> timestamp = subtract_timestamp_duration
_-_(timestamp, timestamp) -> duration = subtract_timestamp_timestamp
_-_(uint, uint) -> uint = subtract_uint64
_*_(double, double) -> double = multiply_double
_*_(int, int) -> int = multiply_int64
_*_(uint, uint) -> uint = multiply_uint64
_/_(double, double) -> double = divide_double
_/_(int, int) -> int = divide_int64
_/_(uint, uint) -> uint = divide_uint64
_%_(int, int) -> int = modulo_int64
_%_(uint, uint) -> uint = modulo_uint64
@in(A, list(A)) -> bool = in_list
@in(A, map(A, B)) -> bool = in_map
_[_](list(A), int) -> A = index_list
_[_](map(A, B), A) -> B = index_map
size(bytes) -> int = size_bytes
.size(bytes) -> int = bytes_size
size(list(A)) -> int = size_list
.size(list(A)) -> int = list_size
size(map(A, B)) -> int = size_map
.size(map(A, B)) -> int = map_size
size(string) -> int = size_string
.size(string) -> int = string_size
type(A) -> type(A) = type
dyn(A) -> dyn = to_dyn
bool(bool) -> bool = bool_to_bool
bool(string) -> bool = string_to_bool
bytes(bytes) -> bytes = bytes_to_bytes
bytes(string) -> bytes = string_to_bytes
double(double) -> double = double_to_double
double(int) -> double = int64_to_double
double(string) -> double = string_to_double
double(uint) -> double = uint64_to_double
duration(duration) -> duration = duration_to_duration
duration(int) -> duration = int64_to_duration
duration(string) -> duration = string_to_duration
int(int) -> int = int64_to_int64
int(double) -> int = double_to_int64
int(duration) -> int = duration_to_int64
int(string) -> int = string_to_int64
int(timestamp) -> int = timestamp_to_int64
int(uint) -> int = uint64_to_int64
string(string) -> string = string_to_string
string(bool) -> string = bool_to_string
string(bytes) -> string = bytes_to_string
string(double) -> string = double_to_string
string(duration) -> string = duration_to_string
string(int) -> string = int64_to_string
string(timestamp) -> string = timestamp_to_string
string(uint) -> string = uint64_to_string
timestamp(timestamp) -> timestamp = timestamp_to_timestamp
timestamp(int) -> timestamp = int64_to_timestamp
timestamp(string) -> timestamp = string_to_timestamp
uint(uint) -> uint = uint64_to_uint64
uint(double) -> uint = double_to_uint64
uint(int) -> uint = int64_to_uint64
uint(string) -> uint = string_to_uint64
.contains(string, string) -> bool = contains_string
.endsWith(string, string) -> bool = ends_with_string
.matches(string, string) -> bool = matches_string
matches(string, string) -> bool = matches
.startsWith(string, string) -> bool = starts_with_string
.getHours(duration) -> int = duration_to_hours
.getMinutes(duration) -> int = duration_to_minutes
.getSeconds(duration) -> int = duration_to_seconds
.getMilliseconds(duration) -> int = duration_to_milliseconds
"""

_TIMESTAMP_PARTS = {
    "getFullYear": "year", "getMonth": "month", "getDayOfYear": "day_of_year",
    "getDate": "day_of_month_1_based", "getDayOfMonth": "day_of_month", "getDayOfWeek": "day_of_week",
    "getHours": "hours", "getMinutes": "minutes", "getSeconds": "seconds", "getMilliseconds": "milliseconds",
}  # fmt: skip

_FORMATS = (
    "dns1123Label", "dns1123Subdomain", "dns1035Label", "qualifiedName", "dns1123LabelPrefix",
    "dns1123SubdomainPrefix", "dns1035LabelPrefix", "labelValue", "uri", "uuid", "byte", "date", "datetime",
)  # fmt: skip

ALWAYS = """
url(string) -> URL = string_to_url
isURL(string) -> bool = is_url_string
.getScheme(URL) -> string = url_get_scheme
.getHost(URL) -> string = url_get_host
.getHostname(URL) -> string = url_get_hostname
.getPort(URL) -> string = url_get_port
.getEscapedPath(URL) -> string = url_get_escaped_path
.getQuery(URL) -> map(string, list(string)) = url_get_query
.find(string, string) -> string = string_find_string
.findAll(string, string) -> list(string) = string_find_all_string
.findAll(string, string, int) -> list(string) = string_find_all_string_int
.indexOf(list(A), A) -> int = list_a_index_of_int
.lastIndexOf(list(A), A) -> int = list_a_last_index_of_int
.charAt(string, int) -> string = string_char_at_int
.indexOf(string, string) -> int = string_index_of_string
.indexOf(string, string, int) -> int = string_index_of_string_int
.lastIndexOf(string, string) -> int = string_last_index_of_string
.lastIndexOf(string, string, int) -> int = string_last_index_of_string_int
.lowerAscii(string) -> string = string_lower_ascii
.replace(string, string, string) -> string = string_replace_string_string
.replace(string, string, string, int) -> string = string_replace_string_string_int
.split(string, string) -> list(string) = string_split_string
.split(string, string, int) -> list(string) = string_split_string_int
.substring(string, int) -> string = string_substring_int
.substring(string, int, int) -> string = string_substring_int_int
.trim(string) -> string = string_trim
.upperAscii(string) -> string = string_upper_ascii
.format(string, list(dyn)) -> string = string_format
strings.quote(string) -> string = strings_quote
.join(list(string)) -> string = list_join
.join(list(string), string) -> string = list_join_string
sets.contains(list(T), list(T)) -> bool = list_sets_contains_list
sets.equivalent(list(T), list(T)) -> bool = list_sets_equivalent_list
sets.intersects(list(T), list(T)) -> bool = list_sets_intersects_list
optional.of(A) -> optional(A) = optional_of
optional.ofNonZeroValue(A) -> optional(A) = optional_ofNonZeroValue
optional.none() -> optional(A) = optional_none
.value(optional(A)) -> A = optional_value
.hasValue(optional(A)) -> bool = optional_hasValue
.or(optional(A), optional(A)) -> optional(A) = optional_or_optional
.orValue(optional(A), A) -> A = optional_orValue_value
_[_](optional(list(A)), int) -> optional(A) = optional_list_index_int
_[_](optional(map(A, B)), A) -> optional(B) = optional_map_index_value
_[?_](list(A), int) -> optional(A) = list_optindex_optional_int
_[?_](optional(list(A)), int) -> optional(A) = optional_list_optindex_optional_int
_[?_](map(A, B), A) -> optional(B) = map_optindex_optional_value
_[?_](optional(map(A, B)), A) -> optional(B) = optional_map_optindex_optional_value
quantity(string) -> Quantity = string_to_quantity
isQuantity(string) -> bool = is_quantity_string
sign(Quantity) -> int = quantity_sign
.isGreaterThan(Quantity, Quantity) -> bool = quantity_is_greater_than
.isLessThan(Quantity, Quantity) -> bool = quantity_is_less_than
.compareTo(Quantity, Quantity) -> int = quantity_compare_to
.asApproximateFloat(Quantity) -> double = quantity_get_float
.asInteger(Quantity) -> int = quantity_get_int
.isInteger(Quantity) -> bool = quantity_is_integer
.add(Quantity, Quantity) -> Quantity = quantity_add
.add(Quantity, int) -> Quantity = quantity_add_int
.sub(Quantity, Quantity) -> Quantity = quantity_sub
.sub(Quantity, int) -> Quantity = quantity_sub_int
ip(string) -> IP = string_to_ip
isIP(string) -> bool = is_ip
string(IP) -> string = ip_to_string
ip.isCanonical(string) -> bool = ip_is_canonical
.family(IP) -> int = ip_family
.isUnspecified(IP) -> bool = ip_is_unspecified
.isLoopback(IP) -> bool = ip_is_loopback
.isLinkLocalMulticast(IP) -> bool = ip_is_link_local_multicast
.isLinkLocalUnicast(IP) -> bool = ip_is_link_local_unicast
.isGlobalUnicast(IP) -> bool = ip_is_global_unicast
cidr(string) -> CIDR = string_to_cidr
isCIDR(string) -> bool = is_cidr
string(CIDR) -> string = cidr_to_string
.containsIP(CIDR, string) -> bool = cidr_contains_ip_string
.containsIP(CIDR, IP) -> bool = cidr_contains_ip_ip
.containsCIDR(CIDR, string) -> bool = cidr_contains_cidr_string
.containsCIDR(CIDR, CIDR) -> bool = cidr_contains_cidr
.ip(CIDR) -> IP = cidr_ip
.prefixLength(CIDR) -> int = cidr_prefix_length
.masked(CIDR) -> CIDR = cidr_masked
.validate(NamedFormat, string) -> optional(list(string)) = format-validate
format.named(string) -> optional(NamedFormat) = format-named
semver(string) -> Semver = string_to_semver
isSemver(string) -> bool = is_semver_string
.isGreaterThan(Semver, Semver) -> bool = semver_is_greater_than
.isLessThan(Semver, Semver) -> bool = semver_is_less_than
.compareTo(Semver, Semver) -> int = semver_compare_to
.major(Semver) -> int = semver_major
.minor(Semver) -> int = semver_minor
.patch(Semver) -> int = semver_patch
"""
"""Everything that every Kubernetes with DRA has: libraries introduced up to 1.31."""

TWO_VARIABLES = """
cel.@mapInsert(map(A, B), A, B) -> map(A, B) = @mapInsert_map_key_value
cel.@mapInsert(map(A, B), map(A, B)) -> map(A, B) = @mapInsert_map_map
"""
SEMVER_1 = """
semver(string, bool) -> Semver = string_bool_to_semver
isSemver(string, bool) -> bool = is_semver_string_bool
"""
LISTS_3 = """
.slice(list(T), int, int) -> list(T) = list_slice
.flatten(list(list(T))) -> list(T) = list_flatten
.flatten(list(dyn), int) -> list(dyn) = list_flatten_int
lists.range(int) -> list(int) = lists_range
.reverse(list(T)) -> list(T) = list_reverse
.distinct(list(T)) -> list(T) = list_distinct
"""
OPTIONALS_2 = """
.first(list(A)) -> optional(A) = list_first
.last(list(A)) -> optional(A) = list_last
optional.unwrap(list(optional(A))) -> list(A) = optional_unwrap
.unwrapOpt(list(optional(A))) -> list(A) = optional_unwrapOpt
"""
"""What the CEL of Kubernetes 1.33 brought along, whatever version it is compatible with."""
AUTHORIZATION = """
.path(Authorizer, string) -> PathCheck = authorizer_path
.group(Authorizer, string) -> GroupCheck = authorizer_group
.serviceAccount(Authorizer, string, string) -> Authorizer = authorizer_serviceaccount
.resource(GroupCheck, string) -> ResourceCheck = groupcheck_resource
.subresource(ResourceCheck, string) -> ResourceCheck = resourcecheck_subresource
.namespace(ResourceCheck, string) -> ResourceCheck = resourcecheck_namespace
.name(ResourceCheck, string) -> ResourceCheck = resourcecheck_name
.fieldSelector(ResourceCheck, string) -> ResourceCheck = authorizer_fieldselector
.labelSelector(ResourceCheck, string) -> ResourceCheck = authorizer_labelselector
.check(PathCheck, string) -> Decision = pathcheck_check
.check(ResourceCheck, string) -> Decision = resourcecheck_check
.allowed(Decision) -> bool = decision_allowed
.reason(Decision) -> string = decision_reason
.errored(Decision) -> bool = decision_errored
.error(Decision) -> string = decision_error
"""
PATCHES = "jsonpatch.escapeKey(string) -> string = jsonpatch_escapekey_string\n"
INCLUDES = ".includes(dyn, dyn) -> bool = dra_includes_dyn_dyn"


def generated() -> str:
    """The overloads that differ only by type."""
    lines = []
    for operator, name in (("<", "less"), ("<=", "less_equals"), (">", "greater"), (">=", "greater_equals")):
        for left, others in _COMPARED.items():
            for right in (left, *others):
                id_ = f"{name}_{_SHORT.get(left, left)}"
                if right != left:
                    id_ += f"_{_SHORT.get(right, right)}"
                lines.append(f"_{operator}_({left}, {right}) -> bool = {id_}")
    for method, part in _TIMESTAMP_PARTS.items():
        lines.append(f".{method}(timestamp) -> int = timestamp_to_{part}")
        lines.append(f".{method}(timestamp, string) -> int = timestamp_to_{part}_with_tz")
    for name in _FORMATS:
        lines.append(f"format.{name}() -> NamedFormat = format.{name}")
    for type_ in ("int", "uint", "double", "duration"):
        lines.append(f".sum(list({type_})) -> {type_} = list_{full_name(type_)}_sum_{full_name(type_)}")
    for type_ in COMPARABLE:
        full = full_name(type_)
        lines.append(f".isSorted(list({type_})) -> bool = list_{full}_is_sorted_bool")
        lines.append(f".max(list({type_})) -> {type_} = list_{full}_max_{full}")
        lines.append(f".min(list({type_})) -> {type_} = list_{full}_min_{full}")
    return "\n".join(lines) + "\n"


def sorting() -> str:
    lines = []
    for type_ in COMPARABLE:
        lines.append(f".sort(list({type_})) -> list({type_}) = list_{full_name(type_)}_sort")
        id_ = f"list_{full_name(type_)}_sortByAssociatedKeys"
        lines.append(f".@sortByAssociatedKeys(list(T), list({type_})) -> list(T) = {id_}")
    return "\n".join(lines) + "\n"


def full_name(name: str) -> str:
    return _QUALIFIED.get(name, name)
