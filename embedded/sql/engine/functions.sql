-- Dremio's functions in DuckDB's words: fn_<name> for every function that DuckDB lacks or means differently.
-- A macro may have one body per argument type, so that a DATE stays a DATE and text is read as a date where Dremio does.
-- Names listed in functions.py under SAME need no macro. Documented results are the tests' table.

-- numbers ------------------------------------------------------------------------------------------------------------
-- Integer division truncates; dividing by zero is an error for every type (DuckDB would give NULL or infinity).
CREATE MACRO fn_divide
    (a INTEGER, b INTEGER) AS CASE WHEN b = 0 THEN error('divide by zero') ELSE a // b END,
    (a BIGINT, b BIGINT) AS CASE WHEN b = 0 THEN error('divide by zero') ELSE a // b END,
    (a HUGEINT, b HUGEINT) AS CASE WHEN b = 0 THEN error('divide by zero') ELSE a // b END,
    (a DOUBLE, b DOUBLE) AS CASE WHEN b = 0 THEN error('divide by zero') ELSE a / b END,
    (a, b) AS CASE WHEN b = 0 THEN error('divide by zero') ELSE CAST(a AS DOUBLE) / CAST(b AS DOUBLE) END;
-- Whole numbers, rounded half away from zero: the heart of decimal division (decimals.py).
CREATE MACRO fn_round_divide(a, b) AS CASE WHEN b = 0 THEN error('divide by zero')
    ELSE a // b + CASE WHEN 2 * abs(a % b) < abs(b) THEN 0 WHEN (a < 0) = (b < 0) THEN 1 ELSE -1 END END;
-- The difference of two dates is an interval of days, not a number.
CREATE MACRO fn_minus(a DATE, b DATE) AS to_days(CAST(a - b AS INTEGER)), (a, b) AS a - b;
CREATE MACRO fn_mod(a, b) AS CASE WHEN b = 0 THEN error('divide by zero') ELSE a % b END;
CREATE MACRO fn_truncate
    (x) AS trunc(x),
    (x, n) AS trunc(CAST(x AS DOUBLE) * pow(10, n)) / pow(10, n);
CREATE MACRO fn_log
    (x) AS ln(x),
    (b, x) AS ln(x) / ln(b);
CREATE MACRO fn_sign(x) AS CAST(sign(x) AS INTEGER);
CREATE MACRO fn_e() AS exp(1.0::DOUBLE);
CREATE MACRO fn_cot(x) AS 1 / tan(x);
CREATE MACRO fn_bin(x) AS CASE WHEN x < 0 THEN to_base(x + 4294967296, 2) ELSE to_base(x, 2) END;
CREATE MACRO fn_xor(a, b) AS xor(a, b);
CREATE MACRO fn_bitwise_and(a, b) AS a & b;
CREATE MACRO fn_bitwise_or(a, b) AS a | b;
CREATE MACRO fn_bitwise_xor(a, b) AS xor(a, b);
CREATE MACRO fn_bitwise_not(a) AS ~a;
CREATE MACRO fn_lshift  -- bits that leave the type are lost, as in Java
    (a INTEGER, n) AS CASE WHEN n % 32 = 0 THEN a ELSE CAST((((CAST(a AS HUGEINT) * CAST(pow(2, n % 32) AS HUGEINT)) % 4294967296 + 6442450944) % 4294967296) - 2147483648 AS INTEGER) END,
    (a BIGINT, n) AS CAST((((CAST(a AS HUGEINT) * CAST(pow(2, n % 64) AS HUGEINT)) % 18446744073709551616 + 27670116110564327424) % 18446744073709551616) - 9223372036854775808 AS BIGINT);
CREATE MACRO fn_rshift(a INTEGER, n) AS CAST(floor(a / pow(2, n % 32)) AS INTEGER), (a BIGINT, n) AS CAST(floor(a / pow(2, n % 64)) AS BIGINT);
CREATE MACRO fn_pmod(a, b) AS CASE WHEN b = 0 THEN error('divide by zero') ELSE ((a % b) + b) % b END;
CREATE MACRO fn_bround
    (x) AS round_even(x, 0),
    (x, n) AS round_even(x, CAST(n AS INTEGER));
CREATE MACRO fn_to_number(x, f) AS py_parse_number(CAST(x AS VARCHAR), f);
CREATE MACRO fn_format_number(x, f) AS py_format_number(CAST(x AS DECIMAL(38, 10)), f);
CREATE MACRO fn_approx_percentile(x, p) AS CAST(approx_quantile(CAST(x AS DOUBLE), p) AS DOUBLE);
-- Haversine on a sphere of 6 371 km.
CREATE MACRO fn_geo_distance(a, b, c, d) AS 2 * 6371000 * asin(sqrt(
    0.5::DOUBLE - cos((CAST(c AS DOUBLE) - CAST(a AS DOUBLE)) * (pi() / 180)) / 2
    + cos(CAST(a AS DOUBLE) * (pi() / 180)) * cos(CAST(c AS DOUBLE) * (pi() / 180))
      * (1 - cos((CAST(d AS DOUBLE) - CAST(b AS DOUBLE)) * (pi() / 180))) / 2));
CREATE MACRO fn_geo_nearby(a, b, c, d, m) AS fn_geo_distance(a, b, c, d) <= m;
CREATE MACRO fn_geo_beyond(a, b, c, d, m) AS fn_geo_distance(a, b, c, d) > m;
CREATE MACRO fn_st_geohash(a, b) AS py_geohash(CAST(a AS DOUBLE), CAST(b AS DOUBLE), 20),
    (a, b, n) AS py_geohash(CAST(a AS DOUBLE), CAST(b AS DOUBLE), CAST(n AS INTEGER));
CREATE MACRO fn_st_fromgeohash(x) AS py_from_geohash(x);
CREATE MACRO fn_width_bucket(x, lo, hi, n) AS CAST(
    CASE WHEN x < lo THEN 0 WHEN x >= hi THEN n + 1
         ELSE floor((CAST(x AS DOUBLE) - lo) / (CAST(hi AS DOUBLE) - lo) * n) + 1 END AS INTEGER);

-- text ---------------------------------------------------------------------------------------------------------------
CREATE MACRO fn_length(x) AS CAST(length(CAST(x AS VARCHAR)) AS INTEGER);
CREATE MACRO fn_octet_length(x VARCHAR) AS CAST(strlen(x) AS INTEGER), (x BLOB) AS CAST(octet_length(x) AS INTEGER);
CREATE MACRO fn_bit_length(x VARCHAR) AS CAST(strlen(x) * 8 AS INTEGER), (x BLOB) AS CAST(octet_length(x) * 8 AS INTEGER);
CREATE MACRO fn_ascii(x) AS CAST(CASE WHEN x = '' THEN 0 ELSE ascii(x) END AS INTEGER);
CREATE MACRO fn_chr(x) AS chr(CAST(x AS INTEGER));
CREATE MACRO fn_initcap(x) AS array_to_string(list_transform(
    regexp_extract_all(x, '[A-Za-z0-9]+|[^A-Za-z0-9]+'),
    lambda w: upper(substr(w, 1, 1)) || lower(substr(w, 2))), '');
CREATE MACRO fn_lpad
    (x, n) AS CASE WHEN n <= 0 THEN '' ELSE lpad(x, CAST(n AS INTEGER), ' ') END,
    (x, n, p) AS CASE WHEN n <= 0 THEN '' WHEN p = '' THEN substr(x, 1, n) ELSE lpad(x, CAST(n AS INTEGER), p) END;
CREATE MACRO fn_rpad
    (x, n) AS CASE WHEN n <= 0 THEN '' ELSE rpad(x, CAST(n AS INTEGER), ' ') END,
    (x, n, p) AS CASE WHEN n <= 0 THEN '' WHEN p = '' THEN substr(x, 1, n) ELSE rpad(x, CAST(n AS INTEGER), p) END;
CREATE MACRO fn_left(x, n) AS left(x, CAST(n AS BIGINT));
CREATE MACRO fn_right(x, n) AS right(x, CAST(n AS BIGINT));
CREATE MACRO fn_position
    (needle, hay) AS CAST(strpos(hay, needle) AS INTEGER),
    (needle, hay, n) AS CAST(
        CASE WHEN strpos(substr(hay, n), needle) = 0 THEN 0 ELSE strpos(substr(hay, n), needle) + n - 1 END AS INTEGER);
CREATE MACRO fn_strpos(hay, needle) AS CAST(strpos(hay, needle) AS INTEGER);
CREATE MACRO fn_instr(hay, needle) AS CAST(strpos(hay, needle) AS INTEGER);
CREATE MACRO fn_repeat(x, n) AS repeat(x, CAST(n AS BIGINT));
CREATE MACRO fn_space(n) AS repeat(' ', CAST(n AS BIGINT));
CREATE MACRO fn_split_part(x, d, n) AS split_part(x, d, CAST(n AS BIGINT));
CREATE MACRO fn_like
    (x, p) AS x LIKE p,
    (x, p, e) AS x LIKE p ESCAPE e;
CREATE MACRO fn_ilike
    (x, p) AS CAST(x AS VARCHAR) ILIKE p,
    (x, p, e) AS CAST(x AS VARCHAR) ILIKE p ESCAPE e;
CREATE MACRO fn_col_like(x, p) AS x LIKE p;
CREATE MACRO fn_regexp_col_like(x, p) AS regexp_full_match(x, p);
CREATE MACRO fn_regexp_split(x, p, k, n) AS py_regexp_split(x, p, k, CAST(n AS INTEGER));
CREATE MACRO fn_is_substr(hay, needle) AS contains(hay, needle);
CREATE MACRO fn_substring_index(x, d, n) AS CASE WHEN n = 0 OR d = '' THEN ''
    WHEN n > 0 THEN array_to_string(list_slice(string_split(x, d), 1, CAST(n AS BIGINT)), d)
    ELSE array_to_string(list_slice(string_split(x, d), greatest(len(string_split(x, d)) + CAST(n AS BIGINT) + 1, 1), len(string_split(x, d))), d) END;
CREATE MACRO fn_soundex(x) AS py_soundex(x);
CREATE MACRO fn_normalize_string(x) AS py_normalize(x, 'NFC'), (x, f) AS py_normalize(x, f);
CREATE MACRO fn_parse_url(x, p) AS py_parse_url(x, p, ''), (x, p, k) AS py_parse_url(x, p, k);
CREATE MACRO fn_quote(x) AS CASE WHEN x IS NULL THEN 'NULL' ELSE concat('''', replace(replace(replace(CAST(x AS VARCHAR), '\', '\\'), '''', '\'''), chr(26), '\' || chr(26)), '''') END;
CREATE MACRO fn_mask_text(x, u, l, d) AS regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(x,
    '[A-Z]', chr(1), 'g'), '[a-z]', chr(2), 'g'), '[0-9]', CASE WHEN d = '' THEN 'n' ELSE d[1] END, 'g'),
    chr(2), CASE WHEN l = '' THEN 'x' ELSE l[1] END, 'g'), chr(1), CASE WHEN u = '' THEN 'X' ELSE u[1] END, 'g');
CREATE MACRO fn_mask
    (x) AS fn_mask_text(x, '', '', ''), (x, u) AS fn_mask_text(x, u, '', ''),
    (x, u, l) AS fn_mask_text(x, u, l, ''), (x, u, l, d) AS fn_mask_text(x, u, l, d);
CREATE MACRO fn_mask_first_n
    (x) AS fn_mask_text(x[:4], '', '', '') || x[5:], (x, n) AS fn_mask_text(left(x, n), '', '', '') || substr(x, n + 1),
    (x, n, u, l, d) AS fn_mask_text(left(x, n), u, l, d) || substr(x, n + 1);
CREATE MACRO fn_mask_last_n
    (x) AS left(x, greatest(length(x) - 4, 0)) || fn_mask_text(right(x, 4), '', '', ''),
    (x, n) AS left(x, greatest(length(x) - n, 0)) || fn_mask_text(right(x, n), '', '', ''),
    (x, n, u, l, d) AS left(x, greatest(length(x) - n, 0)) || fn_mask_text(right(x, n), u, l, d);
CREATE MACRO fn_mask_show_first_n
    (x) AS left(x, 4) || fn_mask_text(substr(x, 5), '', '', ''), (x, n) AS left(x, n) || fn_mask_text(substr(x, n + 1), '', '', ''),
    (x, n, u, l, d) AS left(x, n) || fn_mask_text(substr(x, n + 1), u, l, d);
CREATE MACRO fn_mask_show_last_n
    (x) AS fn_mask_text(left(x, greatest(length(x) - 4, 0)), '', '', '') || right(x, 4),
    (x, n) AS fn_mask_text(left(x, greatest(length(x) - n, 0)), '', '', '') || right(x, n),
    (x, n, u, l, d) AS fn_mask_text(left(x, greatest(length(x) - n, 0)), u, l, d) || right(x, n);
CREATE MACRO fn_mask_hash(x) AS sha256(x);
CREATE MACRO fn_crc32(x VARCHAR) AS py_crc32(encode(x)), (x BLOB) AS py_crc32(x);
CREATE MACRO fn_sha512(x VARCHAR) AS py_sha512(encode(x)), (x BLOB) AS py_sha512(x);
CREATE MACRO fn_string_binary(x) AS py_string_binary(x);
CREATE MACRO fn_binary_string(x) AS py_binary_string(x);
CREATE MACRO fn_encode(x, c) AS py_encode(x, c);
CREATE MACRO fn_convert_replaceutf8(x, r) AS py_replace_utf8(x, r);
CREATE MACRO fn_encrypt
    (x, k, m) AS py_encrypt(x, k, m, ''::BLOB, ''::BLOB), (x, k, m, i) AS py_encrypt(x, k, m, i, ''::BLOB), (x, k, m, i, a) AS py_encrypt(x, k, m, i, a);
CREATE MACRO fn_decrypt
    (x, k, m) AS py_decrypt(x, k, m, ''::BLOB, ''::BLOB), (x, k, m, i) AS py_decrypt(x, k, m, i, ''::BLOB), (x, k, m, i, a) AS py_decrypt(x, k, m, i, a);
CREATE MACRO fn_aes_encrypt(x, k) AS py_aes_encrypt(x, k);
CREATE MACRO fn_aes_decrypt(x, k) AS py_aes_decrypt(x, k);
CREATE MACRO fn_pack_integer(x, k) AS py_pack_integer(CAST(x AS BIGINT), k);
CREATE MACRO fn_pack_float(x, k) AS py_pack_float(CAST(x AS DOUBLE), k);
CREATE MACRO fn_pack_date(x, k) AS py_pack_integer(epoch_ms(CAST(x AS TIMESTAMP)), k);
CREATE MACRO fn_pack_time(x, k) AS py_pack_integer(CAST(epoch(x) * 1000 AS BIGINT), k);
CREATE MACRO fn_unpack_date(x, k) AS make_timestamp(py_unpack_integer(x, k) * 1000);
CREATE MACRO fn_unpack_time(x, k) AS CAST(make_timestamp(py_unpack_integer(x, k) * 1000) AS TIME);
CREATE MACRO fn_regexp_matches(x, p) AS regexp_full_match(x, p);
CREATE MACRO fn_regexp_replace(x, p, r) AS regexp_replace(x, p, r, 'g');
CREATE MACRO fn_translate(x, f, t) AS translate(x, f, t);
CREATE MACRO fn_levenshtein(a, b) AS CAST(levenshtein(a, b) AS INTEGER);
CREATE MACRO fn_md5(x VARCHAR) AS md5(x), (x BLOB) AS md5(x);
CREATE MACRO fn_sha(x) AS sha1(x);
CREATE MACRO fn_hex(x) AS hex(x);
CREATE MACRO fn_unhex(x) AS unhex(x);
CREATE MACRO fn_base64(x BLOB) AS base64(x), (x VARCHAR) AS base64(encode(x));
CREATE MACRO fn_unbase64(x) AS from_base64(x);
CREATE MACRO fn_to_hex(x) AS hex(x);
CREATE MACRO fn_from_hex(x) AS unhex(x);
CREATE MACRO fn_is_utf8(x BLOB) AS TRY(decode(x)) IS NOT NULL, (x VARCHAR) AS x IS NOT NULL;
-- A timestamp as text always has three digits of milliseconds. The CASE is folded at planning, typeof() being constant.
CREATE MACRO fn_to_text(x) AS CASE typeof(x)
    WHEN 'TIMESTAMP' THEN rpad(CAST(x AS VARCHAR) || CASE WHEN contains(CAST(x AS VARCHAR), '.') THEN '' ELSE '.' END, 23, '0')
    WHEN 'TIME' THEN rpad(CAST(x AS VARCHAR) || CASE WHEN contains(CAST(x AS VARCHAR), '.') THEN '' ELSE '.' END, 12, '0')
    ELSE CAST(x AS VARCHAR) END;

-- dates --------------------------------------------------------------------------------------------------------------
CREATE MACRO fn_year(x) AS CAST(year(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_quarter(x) AS CAST(quarter(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_month(x) AS CAST(month(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_week(x) AS CAST(week(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_day(x) AS CAST(day(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_dayofyear(x) AS CAST(dayofyear(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_dayofweek(x) AS CAST(dayofweek(CAST(x AS TIMESTAMP)) + 1 AS BIGINT);  -- Sunday is 1
CREATE MACRO fn_hour(x TIMESTAMP) AS hour(x), (x DATE) AS 0::BIGINT, (x TIME) AS hour(x), (x VARCHAR) AS hour(CAST(x AS TIMESTAMP));
CREATE MACRO fn_minute(x TIMESTAMP) AS minute(x), (x DATE) AS 0::BIGINT, (x TIME) AS minute(x), (x VARCHAR) AS minute(CAST(x AS TIMESTAMP));
CREATE MACRO fn_second(x TIMESTAMP) AS second(x), (x DATE) AS 0::BIGINT, (x TIME) AS second(x), (x VARCHAR) AS second(CAST(x AS TIMESTAMP));
CREATE MACRO fn_epoch(x) AS CAST(floor(epoch(CAST(x AS TIMESTAMP))) AS BIGINT);
CREATE MACRO fn_century(x) AS CAST(century(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_decade(x) AS CAST(decade(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_millennium(x) AS CAST(millennium(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_monthname(x) AS strftime(CAST(x AS TIMESTAMP), '%b');
CREATE MACRO fn_dayname(x) AS strftime(CAST(x AS TIMESTAMP), '%a');
CREATE MACRO fn_date_plus_interval  -- DATE_ADD and its like: an interval makes a DATE, and a text, a TIMESTAMP
    (x DATE, i) AS CAST(x AS TIMESTAMP) + i, (x TIMESTAMP, i) AS x + i, (x TIME, i) AS x + i,
    (x VARCHAR, i) AS CAST(CAST(CAST(x AS TIMESTAMP) AS DATE) AS TIMESTAMP) + i;
CREATE MACRO fn_date_plus_days
    (x DATE, n) AS CAST(x + to_days(CAST(n AS INTEGER)) AS DATE), (x TIMESTAMP, n) AS x + to_days(CAST(n AS INTEGER)),
    (x VARCHAR, n) AS CAST(CAST(CAST(x AS TIMESTAMP) AS DATE) + to_days(CAST(n AS INTEGER)) AS DATE);
CREATE MACRO fn_date_less
    (a DATE, b DATE) AS to_days(CAST(a - b AS INTEGER)), (a TIMESTAMP, b TIMESTAMP) AS a - b,
    (a DATE, n INTEGER) AS CAST(a - to_days(n) AS DATE), (a TIMESTAMP, n INTEGER) AS a - to_days(n),
    (a VARCHAR, n INTEGER) AS CAST(CAST(a AS DATE) - to_days(n) AS DATE);
CREATE MACRO fn_timestamptype(y, m, d, h, i, s, ms) AS make_timestamp(
    CAST(y AS BIGINT), CAST(m AS BIGINT), CAST(d AS BIGINT), CAST(h AS BIGINT), CAST(i AS BIGINT), s + ms / 1000.0);
CREATE MACRO fn_isdate(x) AS TRY_CAST(CAST(x AS VARCHAR) AS DATE) IS NOT NULL;
CREATE MACRO fn_overlaps(a, b, c, d) AS CASE WHEN a = b THEN c <= a AND a < greatest(c, d) OR a = least(c, d) ELSE
    least(a, b) < greatest(c, d) AND least(c, d) < greatest(a, b) OR least(a, b) = least(c, d) END;
CREATE MACRO fn_date(x TIMESTAMP) AS CAST(x AS DATE), (x DATE) AS x, (x VARCHAR) AS CAST(x AS DATE);
CREATE MACRO fn_last_day(x) AS last_day(CAST(x AS TIMESTAMP));
CREATE MACRO fn_next_day(x, d) AS CAST(CAST(CAST(x AS TIMESTAMP) AS DATE) + CAST(
    (list_position(['SU', 'MO', 'TU', 'WE', 'TH', 'FR', 'SA'], upper(d[1:2])) - 1 - dayofweek(CAST(x AS TIMESTAMP)) + 6) % 7 + 1 AS INTEGER) AS DATE);
CREATE MACRO fn_add_months
    (x DATE, n) AS CAST(x + to_months(CAST(n AS INTEGER)) AS DATE),
    (x TIMESTAMP, n) AS x + to_months(CAST(n AS INTEGER)),
    (x VARCHAR, n) AS CAST(CAST(x AS DATE) + to_months(CAST(n AS INTEGER)) AS DATE);
-- Days only: the time of day does not count.
CREATE MACRO fn_months_between(a, b) AS
    CASE WHEN day(CAST(a AS TIMESTAMP)) = day(CAST(b AS TIMESTAMP))
              OR (last_day(CAST(a AS TIMESTAMP)) = CAST(CAST(a AS TIMESTAMP) AS DATE) AND last_day(CAST(b AS TIMESTAMP)) = CAST(CAST(b AS TIMESTAMP) AS DATE))
         THEN CAST((year(CAST(a AS TIMESTAMP)) - year(CAST(b AS TIMESTAMP))) * 12 + month(CAST(a AS TIMESTAMP)) - month(CAST(b AS TIMESTAMP)) AS DOUBLE)
         ELSE (year(CAST(a AS TIMESTAMP)) - year(CAST(b AS TIMESTAMP))) * 12 + month(CAST(a AS TIMESTAMP)) - month(CAST(b AS TIMESTAMP))
              + (day(CAST(a AS TIMESTAMP)) - day(CAST(b AS TIMESTAMP))) / 31.0::DOUBLE END;
CREATE MACRO fn_date_trunc
    (u, x DATE) AS CAST(date_trunc(u, x) AS DATE),
    (u, x TIMESTAMP) AS date_trunc(u, x),
    (u, x VARCHAR) AS date_trunc(u, CAST(x AS TIMESTAMP));
CREATE MACRO fn_date_plus  -- whole days, months or years keep a DATE a DATE
    (x DATE, i) AS CAST(x + i AS DATE),
    (x TIMESTAMP, i) AS x + i,
    (x VARCHAR, i) AS CAST(x AS TIMESTAMP) + i;
CREATE MACRO fn_time_plus  -- hours and less make a DATE a TIMESTAMP
    (x DATE, i) AS CAST(x AS TIMESTAMP) + i,
    (x TIMESTAMP, i) AS x + i,
    (x TIME, i) AS x + i,
    (x VARCHAR, i) AS CAST(x AS TIMESTAMP) + i;
CREATE MACRO fn_datediff(a, b) AS CAST(date_diff('day', CAST(CAST(b AS TIMESTAMP) AS DATE), CAST(CAST(a AS TIMESTAMP) AS DATE)) AS INTEGER);
CREATE MACRO fn_timestampdiff(u, a, b) AS CAST(date_sub(u, CAST(a AS TIMESTAMP), CAST(b AS TIMESTAMP)) AS INTEGER);
CREATE MACRO fn_to_date
    (x VARCHAR) AS CAST(x AS DATE), (x DATE) AS x, (x TIMESTAMP) AS CAST(x AS DATE),
    (x DOUBLE) AS CAST(make_timestamp(CAST(x * 1000000 AS BIGINT)) AS DATE);
CREATE MACRO fn_parse_date(x, f) AS CAST(strptime(CAST(x AS VARCHAR), f) AS DATE);
CREATE MACRO fn_try_parse_date(x, f) AS CAST(try_strptime(CAST(x AS VARCHAR), f) AS DATE);
CREATE MACRO fn_to_timestamp
    (x VARCHAR) AS CAST(x AS TIMESTAMP), (x DATE) AS CAST(x AS TIMESTAMP), (x TIMESTAMP) AS x,
    (x DOUBLE) AS make_timestamp(CAST(round(x * 1000) AS BIGINT) * 1000);
CREATE MACRO fn_parse_timestamp(x, f) AS strptime(CAST(x AS VARCHAR), f);
CREATE MACRO fn_try_parse_timestamp(x, f) AS try_strptime(CAST(x AS VARCHAR), f);
CREATE MACRO fn_to_time
    (x VARCHAR) AS CAST(x AS TIME), (x TIMESTAMP) AS CAST(x AS TIME), (x TIME) AS x,
    (x DOUBLE) AS CAST(make_timestamp(CAST(x * 1000000 AS BIGINT)) AS TIME);
CREATE MACRO fn_parse_time(x, f) AS CAST(strptime(CAST(x AS VARCHAR), f) AS TIME);
CREATE MACRO fn_format_date
    (x TIMESTAMP, f) AS strftime(x, f), (x DATE, f) AS strftime(x, f), (x VARCHAR, f) AS strftime(CAST(x AS TIMESTAMP), f),
    (x TIME, f) AS strftime(DATE '1970-01-01' + x, f);
CREATE MACRO fn_unix_timestamp
    (x VARCHAR) AS CAST(epoch(CAST(x AS TIMESTAMP)) AS BIGINT), (x TIMESTAMP) AS CAST(floor(epoch(x)) AS BIGINT),
    (x DATE) AS CAST(epoch(CAST(x AS TIMESTAMP)) AS BIGINT);
CREATE MACRO fn_from_unixtime(x) AS strftime(make_timestamp(CAST(x AS BIGINT) * 1000000), '%Y-%m-%d %H:%M:%S');
CREATE MACRO fn_convert_timezone
    (z, x) AS py_convert_timezone('UTC', z, CAST(x AS TIMESTAMP)),
    (s, z, x) AS py_convert_timezone(s, z, CAST(x AS TIMESTAMP));
CREATE MACRO fn_make_date(y, m, d) AS make_date(CAST(y AS BIGINT), CAST(m AS BIGINT), CAST(d AS BIGINT));

-- lists --------------------------------------------------------------------------------------------------------------
CREATE MACRO fn_cardinality(x) AS CAST(len(x) AS INTEGER);
CREATE MACRO fn_array_contains(l, x) AS list_contains(l, x);
CREATE MACRO fn_array_position(x, l) AS CAST(nullif(list_position(l, x), 0) - 1 AS INTEGER);  -- from zero, NULL when absent
CREATE MACRO fn_array_remove(l, x) AS list_filter(l, lambda e: e IS DISTINCT FROM x);
CREATE MACRO fn_array_append(l, x) AS list_append(l, x);
CREATE MACRO fn_array_prepend(x, l) AS list_prepend(x, l);
CREATE MACRO fn_array_concat(a, b) AS list_concat(a, b);
CREATE MACRO fn_array_distinct(l) AS list_sort(list_distinct(l));
CREATE MACRO fn_array_sort(l) AS list_sort(l, 'ASC', 'NULLS LAST');
CREATE MACRO fn_array_min(l) AS list_min(l);
CREATE MACRO fn_array_max(l) AS list_max(l);
CREATE MACRO fn_array_sum(l) AS list_sum(l);
CREATE MACRO fn_array_avg(l) AS list_avg(l);
CREATE MACRO fn_array_size(l) AS CAST(len(l) AS INTEGER);
-- From zero; a negative place counts from the end; the end is not part of it; outside there is nothing.
CREATE MACRO fn_array_slice
    (l, a) AS CASE WHEN a IS NULL THEN NULL ELSE list_slice(l, greatest(CASE WHEN a < 0 THEN len(l) + a ELSE a END, 0) + 1, len(l)) END,
    (l, a, b) AS CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE list_slice(l,
        greatest(CASE WHEN a < 0 THEN len(l) + a ELSE a END, 0) + 1, greatest(CASE WHEN b < 0 THEN len(l) + b ELSE b END, 0)) END;
CREATE MACRO fn_array_cat(a, b) AS list_concat(a, b);
CREATE MACRO fn_array_compact(l) AS list_filter(l, lambda e: e IS NOT NULL);
CREATE MACRO fn_array_frequency(l) AS CASE WHEN len(l) = 0 THEN error('ARRAY_FREQUENCY needs an array that is not empty')
    ELSE list_aggregate(list_filter(l, lambda e: e IS NOT NULL), 'histogram') END;
CREATE MACRO fn_array_insert(l, p, e) AS CASE
    WHEN p > len(l) THEN list_concat(list_resize(l, p, NULL), [e])
    WHEN p >= 0 THEN list_concat(list_append(list_slice(l, 1, p), e), list_slice(l, p + 1, len(l)))
    WHEN -p > len(l) THEN list_concat(list_concat([e], list_resize(list_slice(l, 1, 0), -p - len(l), NULL)), l)
    ELSE list_concat(list_append(list_slice(l, 1, len(l) + p), e), list_slice(l, len(l) + p + 1, len(l))) END;
CREATE MACRO fn_array_remove_at(l, p) AS CASE WHEN p >= len(l) OR -p > len(l) THEN l
    ELSE list_concat(list_slice(l, 1, CASE WHEN p < 0 THEN len(l) + p ELSE p END), list_slice(l, CASE WHEN p < 0 THEN len(l) + p ELSE p END + 2, len(l))) END;
CREATE MACRO fn_set_union(a, b) AS list_filter(list_concat(a, b), lambda e, i: list_position(list_concat(a, b), e) = i);
CREATE MACRO fn_arrays_overlap(a, b) AS list_has_any(a, b);
CREATE MACRO fn_map_keys(m) AS map_keys(m);
CREATE MACRO fn_map_values(m) AS map_values(m);
CREATE MACRO fn_array_to_string(l, d) AS array_to_string(list_filter(l, lambda e: e IS NOT NULL), d);
CREATE MACRO fn_array_generate_range  -- the end is not part of it
    (a, b) AS range(a, b), (a, b, s) AS range(a, b, s);
CREATE MACRO fn_string_to_array(x, d) AS string_split(x, d);
CREATE MACRO fn_sublist(l, a, n) AS list_slice(l, a, a + n - 1);

-- casts --------------------------------------------------------------------------------------------------------------
-- To a whole number: a DOUBLE rounds half away from zero (DuckDB's cast would round half to even).
CREATE MACRO fn_to_integer(x) AS CASE WHEN typeof(x) IN ('DOUBLE', 'FLOAT')
    THEN CAST(round(TRY_CAST(x AS DOUBLE)) AS INTEGER) ELSE CAST(x AS INTEGER) END;
CREATE MACRO fn_to_bigint(x) AS CASE WHEN typeof(x) IN ('DOUBLE', 'FLOAT')
    THEN CAST(round(TRY_CAST(x AS DOUBLE)) AS BIGINT) ELSE CAST(x AS BIGINT) END;
CREATE MACRO fn_to_binary(x BLOB) AS x, (x VARCHAR) AS encode(x);
CREATE MACRO fn_similar_to(x, p) AS regexp_full_match(x, replace(replace(p, '%', '.*'), '_', '.'));

-- types --------------------------------------------------------------------------------------------------------------
CREATE MACRO fn_typeof(x) AS CASE
    WHEN typeof(x) = 'BOOLEAN' THEN 'BIT' WHEN typeof(x) IN ('TINYINT', 'SMALLINT', 'INTEGER') THEN 'INT'
    WHEN typeof(x) IN ('BIGINT', 'HUGEINT') THEN 'BIGINT' WHEN typeof(x) = 'FLOAT' THEN 'FLOAT4'
    WHEN typeof(x) = 'DOUBLE' THEN 'FLOAT8' WHEN typeof(x) LIKE '%[]' THEN 'LIST'
    WHEN typeof(x) LIKE 'DECIMAL%' THEN 'DECIMAL' WHEN typeof(x) LIKE 'STRUCT%' THEN 'STRUCT'
    WHEN typeof(x) LIKE 'MAP%' THEN 'MAP' WHEN typeof(x) = 'BLOB' THEN 'VARBINARY'
    WHEN typeof(x) = 'TIMESTAMP' THEN 'TIMESTAMPMILLI' WHEN typeof(x) = 'TIME' THEN 'TIMEMILLI'
    WHEN typeof(x) = 'DATE' THEN 'DATEMILLI' WHEN typeof(x) = 'INTERVAL' THEN 'INTERVALDAY'
    WHEN typeof(x) = '"NULL"' THEN 'NULL' ELSE typeof(x) END;
CREATE MACRO fn_is_int(x) AS x IS NOT NULL AND fn_typeof(x) = 'INT';
CREATE MACRO fn_is_bigint(x) AS x IS NOT NULL AND fn_typeof(x) = 'BIGINT';
CREATE MACRO fn_is_varchar(x) AS x IS NOT NULL AND fn_typeof(x) = 'VARCHAR';
CREATE MACRO fn_isnumeric(x) AS CASE WHEN x IS NULL THEN false WHEN fn_typeof(x) IN ('INT', 'BIGINT', 'FLOAT4', 'FLOAT8', 'DECIMAL') THEN true
    ELSE TRY_CAST(CAST(x AS VARCHAR) AS DOUBLE) IS NOT NULL END;
CREATE MACRO fn_isnull(x) AS x IS NULL;
CREATE MACRO fn_isnotnull(x) AS x IS NOT NULL;
CREATE MACRO fn_istrue(x) AS x IS NOT DISTINCT FROM true;
CREATE MACRO fn_isnottrue(x) AS x IS DISTINCT FROM true;
CREATE MACRO fn_isfalse(x) AS x IS NOT DISTINCT FROM false;
CREATE MACRO fn_isnotfalse(x) AS x IS DISTINCT FROM false;
