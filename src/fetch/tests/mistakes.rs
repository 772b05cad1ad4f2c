//! Every mistake, with the place its caret points at: `^` in the text stands before that byte, as in the kernel's
//! `kprobe_syntax_errors.tc`. Where a row is the kernel's, its name there is behind it.

use crate::fetch::{At, FetchArg, Part, compile, filter, parse_arg};
use crate::syntax::SyntaxError;

/// The text without its `^`, and where that was.
fn marked(text: &str) -> (String, usize) {
    let at = text.find('^').unwrap_or_else(|| panic!("no caret in {text}"));
    (text.replacen('^', "", 1), at)
}

/// The mistakes of a table that are not as it says.
#[derive(Default)]
struct Wrong(String);

impl Wrong {
    fn check(&mut self, text: &str, error: &SyntaxError, at: usize, message: &str) {
        let within = error.at + error.len <= text.len().max(error.at + 1);
        if error.message != message || error.at != at || error.len == 0 || !within {
            let marks = " ".repeat(error.at) + &"^".repeat(error.len);
            self.0 += &format!("{text}\n{marks} {}\n  expected at {at}: {message}\n", error.message);
        }
    }

    fn none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

#[test]
fn in_fetch_args() {
    let a = "a".repeat(33);
    let long_name = format!("^{a}=%di");
    let long = format!("^x={}%di{}", "+1(".repeat(80), ")".repeat(80));
    let deep = format!("x={}^+1(%di){}", "+1(".repeat(16), ")".repeat(16));
    let rows: &[(&str, &str)] = &[
        ("^", "no argument expression"),
        ("^  ", "no argument expression"),
        ("arg1=^", "no argument expression"),        // NO_ARG_BODY
        ("^=%di", "argument name is not specified"), // NO_ARG_NAME
        ("^var.1=%di", "argument name 'var.1' must follow the same rules as C identifiers"), // BAD_ARG_NAME
        ("^1x=%di", "argument name '1x' must follow the same rules as C identifiers"),
        ("^a b=%di", "argument name 'a b' must follow the same rules as C identifiers"),
        ("^ä=%di", "argument name 'ä' must follow the same rules as C identifiers"),
        (&long_name, "argument name is too long: over 32 bytes"), // ARG_NAME_TOO_LONG
        ("^common_pid=%di", "argument name 'common_pid' is reserved, as are all with 'common_' in front"),
        (&long, "argument expression is too long: over 255 bytes"), // ARG_TOO_LONG
        ("^%none_reg", "invalid register name '%none_reg'"),        // BAD_REG_NAME
        ("^%rdx1", "invalid register name '%rdx1'; did you mean '%rdx'?"),
        ("x=^%", "invalid register name '%'"),
        ("^%st0", "invalid register name '%st0'"),
        ("^$none_var", "unknown variable '$none_var'"), // BAD_VAR
        ("^$retvla", "unknown variable '$retvla'; did you mean '$retval'?"),
        ("^$", "unknown variable '$'"),
        ("^$arg", "unknown variable '$arg'; did you mean '$arg1'?"),
        ("^$arg0", "invalid argument number '0': $arg1 to $arg128"), // BAD_ARG_NUM
        ("^$arg10000", "invalid argument number '10000': $arg1 to $arg128"),
        ("^$arg1x", "invalid argument number '1x': $arg1 to $arg128"),
        ("^$arg01", "invalid argument number '01': $arg1 to $arg128"),
        ("^$arg*", "invalid argument number '*': $arg1 to $arg128"),
        ("$stack^10000", "invalid stack number '10000': at most 2048"), // BAD_STACK_NUM
        ("+0($stack^1z)", "invalid stack number '1z': at most 2048"),
        ("^$xmm32", "invalid register number '32': $xmm0 to $xmm31"),
        ("^@12345678abcde", "invalid memory address '12345678abcde'"), // BAD_MEM_ADDR
        ("^@", "invalid memory address ''"),
        ("^@0x1ffffffffffffffff", "invalid memory address '0x1ffffffffffffffff'"),
        (
            "x=^@environ",
            "a symbol is not available here: take the file offset of 'environ', as @+OFFSET", // SYM_ON_UPROBE
        ),
        ("^@+", "invalid file offset value ''"), // BAD_FILE_OFFS
        ("^@+-8", "invalid file offset value '-8'"),
        ("arg1=\\^x", "invalid immediate value 'x'"), // BAD_IMM
        ("\\^", "invalid immediate value ''"),
        ("arg1=\\\"abcd^", "string is not closed with '\"'"), // IMMSTR_NO_CLOSE
        ("arg1=\\\"abcd\\\"^", "string is not closed with '\"'"),
        ("^+0%di)", "dereference needs a brace, like +8(%di)"), // DEREF_NEED_BRACE
        ("^+8", "dereference needs a brace, like +8(%di)"),
        ("^+0ab1(%di)", "invalid dereference offset '+0ab1'"), // BAD_DEREF_OFFS
        ("^+(%di)", "invalid dereference offset '+'"),
        ("^-+1(%di)", "invalid dereference offset '-+1'"),
        ("^+9223372036854775808(%di)", "invalid dereference offset '+9223372036854775808'"),
        ("+0(+0(%di)^", "dereference brace is not closed"), // DEREF_OPEN_BRACE
        ("+0(%di^:u8)", "dereference brace is not closed"),
        ("+0(^$comm)", "$comm can not be dereferenced"), // COMM_CANT_DEREF
        ("+0(^\\\"a\")", "an immediate string can not be dereferenced"),
        (&deep, "dereference is too much nested: over 16 deep"), // TOO_MANY_OPS
        ("^&1", "invalid fetch argument: a source begins with one of % $ @ \\ + -"), // BAD_FETCH_ARG
        ("^0x10", "invalid fetch argument: a source begins with one of % $ @ \\ + -"),
        ("+8(^)", "invalid fetch argument: a source begins with one of % $ @ \\ + -"),
        ("^req->", "invalid fetch argument: a source begins with one of % $ @ \\ + -"),
        ("^arr[x]", "invalid fetch argument: a source begins with one of % $ @ \\ + -"),
        ("%di^)", "')' is left over after the argument's source"),
        ("+0(%di)^x", "'x' is left over after the argument's source"),
        ("%di:^", "no type after the ':'"),
        ("%di:^unknown_type", "unknown type 'unknown_type' is specified"), // BAD_TYPE
        ("%di:^u31", "unknown type 'u31' is specified; did you mean 'u32'?"),
        ("%di:^str", "unknown type 'str' is specified"),
        ("%di:^strin", "unknown type 'strin' is specified; did you mean 'string'?"),
        (
            "%di:^b10@a/16",
            "invalid bit field 'b10@a/16': write b<width>@<offset>/<8, 16, 32 or 64>, within it",
        ), // BAD_BITFIELD
        ("%di:^b0@0/8", "invalid bit field 'b0@0/8': write b<width>@<offset>/<8, 16, 32 or 64>, within it"),
        ("%di:^b5@4/8", "invalid bit field 'b5@4/8': write b<width>@<offset>/<8, 16, 32 or 64>, within it"),
        ("%di:^b5@4/24", "invalid bit field 'b5@4/24': write b<width>@<offset>/<8, 16, 32 or 64>, within it"),
        ("%di:^b5", "invalid bit field 'b5': write b<width>@<offset>/<8, 16, 32 or 64>, within it"),
        ("\\1:u8[10^", "array is not closed"),        // ARRAY_NO_CLOSE
        ("\\1:u8[10]^a", "array has wrong suffix"),   // ARRAY_BAD_SUFFIX
        ("\\1:u8[^10a]", "invalid array size '10a'"), // BAD_ARRAY_NUM
        ("\\1:u8[^]", "invalid array size ''"),
        ("\\1:u8[^0]", "invalid array size '0'"),
        ("\\1:u8[^256]", "array number 256 is too big: at most 64"), // ARRAY_TOO_BIG
        ("$comm:^u8", "$comm and immediate strings have no type but 'string'"), // NEED_STRING_TYPE
        ("\\\"a\":^string[2]", "$comm and immediate strings have no type but 'string'"),
    ];
    let mut wrong = Wrong::default();
    for (text, message) in rows {
        let (text, at) = marked(text);
        let error = parse_arg(&text).expect_err(&text);
        wrong.check(&text, &error, at, message);
    }
    wrong.none();
}

#[test]
fn in_filters() {
    let deep = format!("{}^(a == 1{}", "(".repeat(32), ")".repeat(33));
    let many = format!("{}^a == 1", "a == 1 || ".repeat(128));
    let long = format!("a == ^\"{}\"", "x".repeat(256));
    let rows: &[(&str, &str)] = &[
        ("^", "no filter expression"),
        ("^ \t", "no filter expression"),
        ("a^", "expected an operator after 'a': one of == != < <= > >= & ~"),
        ("!a^", "expected an operator after 'a': one of == != < <= > >= & ~"),
        ("a ^&& b == 1", "expected an operator after 'a': one of == != < <= > >= & ~"),
        ("(a^)", "expected an operator after 'a': one of == != < <= > >= & ~"),
        ("a ^in 1", "expected an operator after 'a': one of == != < <= > >= & ~"),
        ("a ^= 1", "invalid operator '='; did you mean '=='?"), // INVALID_OP
        ("a ^=== 1", "invalid operator '==='; did you mean '=='?"),
        ("a ^=~ x", "invalid operator '=~'; did you mean '~'?"),
        ("a ^!~ x", "invalid operator '!~'; write !(… ~ …)"),
        ("a ^<> 1", "invalid operator '<>'; did you mean '!='?"),
        ("a ^% 2", "invalid operator '%'"),
        ("a ^| 2", "invalid operator '|'"),
        ("a ==^", "no value after '=='"),
        ("a == ^)", "no value after '=='"),
        ("a == ^&& b == 1", "no value after '=='"),
        ("a == ^\"x", "missing matching quote \""), // MISSING_QUOTE
        ("a == ^'x\"", "missing matching quote '"),
        ("a == ^\"x\\\"", "missing matching quote \""),
        ("a == 1 ^b == 2", "expected && or || before 'b'"),
        ("a == 1 ^and b == 2", "expected && or || before 'and': write && for 'and'"),
        ("a == 1 ^or b == 2", "expected && or || before 'or': write || for 'or'"),
        ("a == 1 ^& b == 2", "expected && or || before '&'"),
        ("a & 1 ^== 1", "expected && or || before '=='"),
        ("a < b ^< c", "expected && or || before '<'"),
        ("(a == 1 ^b == 2)", "expected && or || or ')'"),
        ("^(a == 1", "too many '(': this one is not closed"), // TOO_MANY_OPEN
        ("^(a == 1 && (b == 1)", "too many '(': this one is not closed"),
        ("a == 1^)", "too many ')'"), // TOO_MANY_CLOSE
        ("^)", "expected the name of a field, not ')'"),
        ("(^)", "expected the name of a field, not ')'"),
        ("^== 1", "expected the name of a field, not '=='"),
        ("^1 == a", "expected the name of a field, not '1'"),
        ("^\"a\" == 1", "expected the name of a field, not '\"a'"),
        ("^$ == 1", "expected the name of a field, not '$'"),
        ("^%di == 1", "expected the name of a field, not '%di'"),
        ("^ä == 1", "expected the name of a field, not 'ä'"),
        ("a == 1 &&^", "expected a comparison, the filter ends here"),
        ("a == 1 || ^&& b == 1", "expected the name of a field, not '&&'"),
        ("!^", "expected a comparison, the filter ends here"),
        (&deep, "too deeply nested: over 32 '('"),
        (&many, "too many terms: over 128"),         // TOO_MANY_PREDS
        (&long, "operand too long: over 255 bytes"), // OPERAND_TOO_LONG
    ];
    let mut wrong = Wrong::default();
    for (text, message) in rows {
        let (text, at) = marked(text);
        let error = filter::parse(&text).expect_err(&text);
        wrong.check(&text, &error, at, message);
    }
    wrong.none();
}

/// Arguments where the one with the `^` is wrong, at each kind of place.
#[test]
fn in_arguments_for_their_place() {
    let many: Vec<String> =
        (0..129).map(|i| if i == 128 { "^%di".to_owned() } else { "%di".to_owned() }).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let rows: &[(At, &[&str], &str)] = &[
        (At::Inside, &["x=^$arg1"], "$arg1 is available only at a function's first instruction: use %reg"),
        (At::Return, &["+0(^$arg7)"], "$arg7 is not available on return; fetch it at the entry, in 'args'"),
        (
            At::Entry,
            &["x=^$retval:s32"],
            "$retval is not available before the function returns; write kind = \"return\" and fetch it in 'ret'",
        ),
        (
            At::Inside,
            &["^$retval"],
            "$retval is not available before the function returns; write kind = \"return\" and fetch it in 'ret'",
        ),
        (At::Entry, &["x=%di", "^x=%si"], "argument name 'x' is already used"), // USED_ARG_NAME
        (At::Entry, &["arg2=%di", "^%si"], "argument name 'arg2' is already used"),
        (At::Entry, &many, "too many arguments: over 128"),
        (At::Entry, &["%di:^u8[4]"], "an array accepts only a memory argument, like +0($arg1)"),
        (At::Entry, &["$stack1:^u8[4]"], "an array accepts only a memory argument, like +0($arg1)"),
        (At::Entry, &["$tid:^string"], "string accepts only a memory argument"), // BAD_STRING
        (At::Entry, &["$ts:^string[2]"], "string accepts only a memory argument"),
        (At::Entry, &["^$xmm0"], "$xmmN is not in this version yet"),
        (At::Entry, &["%ax:^f32"], "the type f32 is not in this version yet"),
        (At::Entry, &["%ax:^symstr"], "the type symstr is not in this version yet"),
        (
            At::Return,
            &["^$latency"],
            "$latency needs both sides of the call to be timed; write kind = \"call\"",
        ),
        (At::Entry, &["x=+0(^req->uri):string"], "a parameter by its name is not in this version yet"),
    ];
    let mut wrong = Wrong::default();
    for (at, args, message) in rows {
        let index = args.iter().position(|arg| arg.contains('^')).unwrap();
        let (text, caret) = marked(args[index]);
        let args: Vec<FetchArg> = args.iter().map(|arg| parse_arg(&arg.replace('^', "")).unwrap()).collect();
        let error =
            compile(super::sides(&args, *at).0, super::sides(&args, *at).1, None, *at).expect_err(&text);
        assert_eq!(error.part, Part::Arg(index), "{text}");
        wrong.check(&text, &error.error, caret, message);
    }
    wrong.none();
}

#[test]
fn in_filters_for_their_fields() {
    let args = [
        "path=$arg2:string",
        "flags=$arg3:x32",
        "fd=$arg1:s32",
        "n=%di:u64",
        "c=%al:char",
        "v=+0(%di):u8[4]",
    ];
    let args = args.map(|arg| parse_arg(arg).unwrap());
    let mut wrong = Wrong::default();
    for (text, message) in [
        ("^pth == a", "field 'pth' not found; did you mean 'path'?"), // FIELD_NOT_FOUND
        ("fd == 1 && ^zzz == 1", "field 'zzz' not found"),
        ("^$arg1 == 1", "field '$arg1' not found; name it in 'args', like args = [\"x=$arg1\"]"),
        ("^$latency > 1", "$latency needs both sides of the call to be timed; write kind = \"call\""),
        ("^v == 1", "field 'v' is an array, which can't be compared"),
        ("path ^< \"a\"", "illegal operation for field type: '<' on 'path', a string; use == != or ~"), // ILLEGAL_FIELD_OP
        ("path ^& 1", "illegal operation for field type: '&' on 'path', a string; use == != or ~"),
        ("$comm ^>= a", "illegal operation for field type: '>=' on '$comm', a string; use == != or ~"),
        ("fd ^~ \"1*\"", "illegal operation for field type: '~' on 'fd', s32"),
        ("flags == ^\"1\"", "expecting a number: 'flags' is x32"), // EXPECT_DIGIT
        ("flags == ^'ab'", "expecting a number or one character: 'flags' is x32"),
        ("flags == ^O_CREAT", "expecting a number, not 'O_CREAT': 'flags' is x32"),
        ("flags == ^12z", "illegal integer value '12z'"), // ILLEGAL_INTVAL
        ("flags == ^08", "illegal integer value '08'"),
        ("n == ^18446744073709551616", "illegal integer value '18446744073709551616'"),
        ("n == ^-1", "'n' is u64 and never negative: give it a type like s64"),
        ("flags > ^-1", "'flags' is x32 and never negative: give it a type like s64"),
        ("fd < ^0xffffffffffffffff", "'0xffffffffffffffff' is beyond the range of s32"),
        ("fd < ^-", "illegal integer value '-'"),
    ] {
        let (text, at) = marked(text);
        let expr = filter::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let error = compile(&args, &[], Some(&expr), At::Entry).expect_err(&text);
        assert_eq!(error.part, Part::Filter, "{text}");
        wrong.check(&text, &error.error, at, message);
    }
    wrong.none();
}
