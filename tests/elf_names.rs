//! C++ and Rust names, mangled and as people write them.

mod elf_support;

use std::path::PathBuf;

use elf_support::{directory, exact, glob, labels, one, parse, regex, run, sorted_labels, write};
use uprobe::elf::{ElfFile, STACK_NEEDED, demangle};

const CPP: &str = r#"
#include <string>
#include <vector>
#define KEEP __attribute__((noinline, used))
namespace shop {
    struct Price { long cents; };
    class Cart {
    public:
        KEEP Cart();
        KEEP ~Cart();
        KEEP void add(int item);
        KEEP void add(int item, const Price &price);
        KEEP long total() const;
        KEEP bool operator<(const Cart &other) const;
        KEEP operator bool() const;
        KEEP std::string name(const std::string &suffix) const;
        long sum;
    };
    Cart::Cart() : sum(0) { asm volatile(""); }
    Cart::~Cart() { asm volatile(""); }
    void Cart::add(int item) { asm volatile(""); sum += item; }
    void Cart::add(int item, const Price &price) { asm volatile(""); sum += item * price.cents; }
    long Cart::total() const { asm volatile(""); return sum; }
    bool Cart::operator<(const Cart &other) const { asm volatile(""); return sum < other.sum; }
    Cart::operator bool() const { asm volatile(""); return sum; }
    std::string Cart::name(const std::string &suffix) const { asm volatile(""); return "cart" + suffix; }
    template <typename T> KEEP T larger(T a, T b) { asm volatile(""); return a < b ? b : a; }
    template int larger<int>(int, int);
    template double larger<double>(double, double);
    namespace { KEEP int secret(unsigned long long n) { asm volatile(""); return n; } }
}
KEEP int plain(std::vector<int> &v) { asm volatile(""); return v.size(); }
int main() {
    shop::Cart a, b; a.add(1); b.add(2, {3}); std::vector<int> v;
    return (a < b) + a.total() + bool(a) + a.name("x").size() + shop::secret(1) + plain(v)
        + [](int x) __attribute__((noinline)) { asm volatile(""); return x; }(1);
}
"#;

fn cpp(test: &str) -> ElfFile {
    let dir = directory(test);
    write(&dir, "shop.cc", CPP);
    run(&dir, "g++", &["-O1", "-std=c++17", "-o", "program", "shop.cc"]);
    parse(&dir.join("program"))
}

#[test]
fn cpp_names() {
    let file = cpp("cpp");
    for (asked, expected) in [
        ("_ZNK4shop4Cart5totalEv", "_ZNK4shop4Cart5totalEv"),
        ("shop::Cart::total", "shop::Cart::total"),
        ("shop::Cart::total() const", "shop::Cart::total() const"),
        ("shop::Cart::add(int)", "shop::Cart::add(int)"),
        ("shop::Cart::add(int,shop::Price const&)", "shop::Cart::add(int,shop::Price const&)"),
        ("shop::Cart::add(int, shop::Price const&)", "shop::Cart::add(int, shop::Price const&)"),
        ("shop::Cart::add", "shop::Cart::add(int) | shop::Cart::add(int, shop::Price const&)"),
        ("shop::Cart::operator<", "shop::Cart::operator<"),
        ("shop::Cart::operator bool", "shop::Cart::operator bool"),
        ("shop::Cart::name", "shop::Cart::name"),
        ("shop::Cart::Cart", "shop::Cart::Cart"),
        ("shop::Cart::~Cart", "shop::Cart::~Cart"),
        ("shop::larger", "shop::larger<double>(double, double) | shop::larger<int>(int, int)"),
        ("shop::larger<int>", "shop::larger<int>"),
        ("shop::larger<int>(int, int)", "shop::larger<int>(int, int)"),
        ("int shop::larger<int>(int, int)", "int shop::larger<int>(int, int)"),
        ("shop::(anonymous namespace)::secret", "shop::(anonymous namespace)::secret"),
        ("plain", "plain"),
        ("plain(std::vector<int, std::allocator<int> >&)", "plain(std::vector<int, std::allocator<int> >&)"),
        ("plain(std::vector<int, std::allocator<int>>&)", "plain(std::vector<int, std::allocator<int>>&)"),
    ] {
        assert_eq!(sorted_labels(&exact(&file, asked)), expected, "{asked}");
    }
}

#[test]
fn cpp_patterns() {
    let file = cpp("cpp-patterns");
    for (pattern, expected) in [
        ("_ZN4shop4Cart3add*", "_ZN4shop4Cart3addEi | _ZN4shop4Cart3addEiRKNS_5PriceE"),
        ("shop::Cart::add", "shop::Cart::add(int) | shop::Cart::add(int, shop::Price const&)"),
        ("shop::*::add(int)", "shop::Cart::add(int)"),
        ("shop::larger<*>", "shop::larger<double>(double, double) | shop::larger<int>(int, int)"),
        ("*secret*", "_ZN4shop12_GLOBAL__N_16secretEy"),
        ("shop::(anonymous*::secret", "shop::(anonymous namespace)::secret(unsigned long long)"),
        ("shop::Cart::t[a-o]tal", "shop::Cart::total() const"),
    ] {
        assert_eq!(sorted_labels(&glob(&file, pattern)), expected, "{pattern}");
    }
    for (pattern, expected) in [
        (r"Cart::add\(int\)$", "shop::Cart::add(int)"),
        (
            r"^shop::Cart::\w+$",
            "shop::Cart::Cart() | shop::Cart::add(int) | shop::Cart::add(int, shop::Price const&) | shop::Cart::name(std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> > const&) const | shop::Cart::total() const",
        ),
    ] {
        assert_eq!(sorted_labels(&regex(&file, pattern)), expected, "{pattern}");
    }
}

#[test]
fn cpp_misses() {
    let file = cpp("cpp-misses");
    let path = file.path().display();
    for (asked, nearest) in [
        ("shop::Cart::totl", "; did you mean 'shop::Cart::total'?"),
        ("shop::Crat::total", "; did you mean 'shop::Cart::total'?"),
        ("shop::Cart::add(long)", ""),
        ("warehouse::empty", ""),
    ] {
        assert_eq!(
            labels(&exact(&file, asked)),
            format!("no-symbol: '{path}' has no function '{asked}'{nearest}")
        );
    }
}

const RUST: &str = r#"
mod store {
    pub struct Shelf<T>(pub Vec<T>);
    impl<T: Clone> Shelf<T> {
        #[inline(never)]
        pub fn put(&mut self, item: T) { self.0.push(item) }
    }
    #[inline(never)]
    pub fn count(n: u64) -> u64 { std::hint::black_box(n) + 1 }
    pub trait Label { fn label(&self) -> usize; }
    impl Label for Shelf<u8> {
        #[inline(never)]
        fn label(&self) -> usize { std::hint::black_box(self.0.len()) }
    }
}
use store::Label;
fn main() {
    let mut shelf = store::Shelf(vec![1u8]);
    shelf.put(2);
    let mut other = store::Shelf(vec![String::new()]);
    other.put(String::new());
    println!("{}", store::count(1) + shelf.label() as u64 + other.0.len() as u64);
}
"#;

fn rust(test: &str, flags: &[&str]) -> PathBuf {
    let dir = directory(test);
    write(&dir, "depot.rs", RUST);
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    run(&dir, &rustc, &[&["-O", "--edition", "2024", "-o", "program", "depot.rs"], flags].concat());
    dir.join("program")
}

#[test]
fn rust_names() {
    for (test, flags) in [("rust", &[][..]), ("rust-v0", &["-C", "symbol-mangling-version=v0"])] {
        let path = rust(test, flags);
        let file = parse(&path);
        assert_eq!(labels(&exact(&file, "depot::store::count")), "depot::store::count", "{test}");
        assert_eq!(glob(&file, "depot::store::c?unt").unwrap().len(), 1, "{test}");
        assert_eq!(regex(&file, "^depot::store::count$").unwrap().len(), 1, "{test}");
        assert_eq!(
            exact(&file, "<depot::store::Shelf<u8> as depot::store::Label>::label").unwrap().len(),
            1,
            "{test}"
        );
        assert_eq!(glob(&file, "*depot::store::Shelf<*>::put").unwrap().len(), 2, "{test}");
        let refusal = exact(&file, "depot::store::cuont").unwrap_err();
        assert!(refusal.to_string().ends_with("did you mean 'depot::store::count'?"), "{refusal}");
        one(exact(&file, "main"));
    }
}

#[test]
fn demangled_names() {
    for (mangled, expected) in [
        ("_ZNK4shop4Cart5totalEv", Some("shop::Cart::total() const")),
        ("_ZNK4shop4Cart5totalEv.part.0", Some("shop::Cart::total() const [clone .part.0]")),
        ("_ZN4shop6largerIiEET_S1_S1_", Some("shop::larger<int>(int, int)")),
        ("_ZN5depot5store5count17h0123456789abcdefE", Some("depot::store::count")),
        (
            "_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE",
            Some("<Test + 'static as foo::Bar<Test>>::bar"),
        ),
        ("_RNvNtCs1234_7mycrate3foo3bar", Some("mycrate::foo::bar")),
        ("_ZTV4Cart", Some("{vtable(Cart)}")),
        ("main", None),
        ("_Z", None),
        ("_R", None),
        ("", None),
    ] {
        assert_eq!(demangle(mangled).as_deref(), expected, "{mangled}");
    }
}

/// Each substitution doubles the result: it must be given up, not built.
#[test]
fn exponential_names_are_given_up() {
    let mut name = String::from("_Z1fIiE");
    for at in 0..40u32 {
        let previous = if at == 0 {
            "S_".to_owned()
        } else {
            format!("S{}_", char::from_digit(at - 1, 36).map_or('Z', |c| c.to_ascii_uppercase()))
        };
        name.push_str(&format!("1pI{previous}{previous}E"));
    }
    let _ = demangle(&name);
    let mut name = String::from("_Z1f");
    name.push_str(&"P".repeat(20_000));
    name.push('i');
    assert_eq!(demangle(&name), None);
}

/// A stack that is too small ends the test process.
#[test]
fn deep_names_keep_to_the_stack_that_is_promised() {
    let deep = || {
        for unit in [
            "P", "A3_", "N", "F", "I", "IP", "LZ", "X", "DT", "NS_", "1aI", "1aIXad", "FP", "M1a", "XplLi1E",
            "ZN",
        ] {
            for depth in [50, 90, 95, 96, 120, 500, 1000] {
                for head in ["_Z", "_Z1f", "_R", "_RIC1a"] {
                    for middle in ["i", "1a", "C1a", "h"] {
                        let mut name = format!("{head}{}{middle}", unit.repeat(depth));
                        let _ = demangle(&name);
                        name.push_str(&"E".repeat(depth));
                        let _ = demangle(&name);
                    }
                }
            }
        }
    };
    std::thread::Builder::new().stack_size(STACK_NEEDED).spawn(deep).unwrap().join().unwrap();
}
