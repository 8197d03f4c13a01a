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
CREATE MACRO fn_date(x TIMESTAMP) AS CAST(x AS DATE), (x DATE) AS x, (x VARCHAR) AS CAST(x AS DATE);
CREATE MACRO fn_last_day(x) AS last_day(CAST(x AS TIMESTAMP));
CREATE MACRO fn_next_day(x, d) AS CAST(CAST(CAST(x AS TIMESTAMP) AS DATE) + CAST(
    (list_position(['SU', 'MO', 'TU', 'WE', 'TH', 'FR', 'SA'], upper(d[1:2])) - 1 - dayofweek(CAST(x AS TIMESTAMP)) + 6) % 7 + 1 AS INTEGER) AS DATE);
CREATE MACRO fn_add_months
    (x DATE, n) AS CAST(x + to_months(CAST(n AS INTEGER)) AS DATE),
    (x TIMESTAMP, n) AS x + to_months(CAST(n AS INTEGER)),
    (x VARCHAR, n) AS CAST(CAST(x AS DATE) + to_months(CAST(n AS INTEGER)) AS DATE);
CREATE MACRO fn_months_between(a, b) AS
    CASE WHEN day(CAST(a AS TIMESTAMP)) = day(CAST(b AS TIMESTAMP))
              OR (last_day(CAST(a AS TIMESTAMP)) = CAST(CAST(a AS TIMESTAMP) AS DATE) AND last_day(CAST(b AS TIMESTAMP)) = CAST(CAST(b AS TIMESTAMP) AS DATE))
         THEN CAST((year(CAST(a AS TIMESTAMP)) - year(CAST(b AS TIMESTAMP))) * 12 + month(CAST(a AS TIMESTAMP)) - month(CAST(b AS TIMESTAMP)) AS DOUBLE)
         ELSE round((year(CAST(a AS TIMESTAMP)) - year(CAST(b AS TIMESTAMP))) * 12 + month(CAST(a AS TIMESTAMP)) - month(CAST(b AS TIMESTAMP))
              + (epoch(CAST(a AS TIMESTAMP) - date_trunc('month', CAST(a AS TIMESTAMP))) - epoch(CAST(b AS TIMESTAMP) - date_trunc('month', CAST(b AS TIMESTAMP)))) / 86400.0 / 31, 8) END;
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
    (z, x) AS timezone(z, timezone('UTC', CAST(x AS TIMESTAMP))),
    (s, z, x) AS timezone(z, timezone(s, CAST(x AS TIMESTAMP)));
CREATE MACRO fn_make_date(y, m, d) AS make_date(CAST(y AS BIGINT), CAST(m AS BIGINT), CAST(d AS BIGINT));

-- lists --------------------------------------------------------------------------------------------------------------
CREATE MACRO fn_cardinality(x) AS CAST(len(x) AS INTEGER);
CREATE MACRO fn_array_contains(l, x) AS list_contains(l, x);
CREATE MACRO fn_array_position(x, l) AS CAST(nullif(list_position(l, x), 0) - 1 AS INTEGER);  -- from zero, NULL when absent
CREATE MACRO fn_array_remove(l, x) AS list_filter(l, lambda e: e <> x);
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
CREATE MACRO fn_array_slice
    (l, a) AS list_slice(l, a + 1, len(l)),
    (l, a, b) AS list_slice(l, CASE WHEN a < 0 THEN len(l) + a + 1 ELSE a + 1 END, CASE WHEN b < 0 THEN len(l) + b ELSE b END);
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
