//! Connection strings, beside the libpq of this machine: what the relay reads is what libpq reads, in every parameter;
//! what it refuses it refuses for a stated reason; and it never quotes a secret, wherever that stands.
#![no_main]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::LazyLock;

use campfire_relay::postgres::Conninfo;
use libfuzzer_sys::fuzz_target;

/// Stands in the text where the input has an `S`.
const SECRET: &str = "hunter2hunter2";

fuzz_target!(|text: &str| {
    // C ends there.
    if text.contains('\0') {
        return;
    }
    let text = text.replace('S', SECRET);
    let ours = Conninfo::parameters(&text);
    let theirs = LIBPQ.parse(&text);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => {
            let theirs: Result<HashMap<_, _>, _> = theirs
                .iter()
                .map(|(name, value)| {
                    Ok::<_, std::str::Utf8Error>((name.clone(), str::from_utf8(value)?.to_owned()))
                })
                .collect();
            assert_eq!(Ok(ours), theirs.as_ref(), "{text:?}");
        }
        // Since 17 libpq refuses spaces in a URL that are not percent-encoded; before, they are what they are.
        (Ok(_), Err(error)) => {
            let is_stricter = LIBPQ.version() >= 170_000 && text.contains(' ');
            assert!(is_stricter, "libpq refuses {text:?}, and the relay takes it: {error}");
        }
        (Err(error), Ok(theirs)) => {
            assert!(
                is_stated(error, &text, theirs),
                "libpq takes {text:?}, and the relay refuses it: {error}"
            );
        }
        (Err(_), Err(_)) => {}
    }
    let whole = Conninfo::parse(&text, |name| (name == "USER").then(|| "someone".to_owned()));
    for error in [ours.as_ref().err(), whole.as_ref().err()].into_iter().flatten() {
        assert!(!error.contains(SECRET), "{text:?} is quoted: {error}");
    }
    if let (Ok(ours), Ok(whole)) = (&ours, &whole) {
        let of = |name: &str| ours.get(name).filter(|value| !value.is_empty()).map(String::as_str);
        let user = of("user").unwrap_or("someone");
        assert_eq!((whole.user(), whole.database()), (user, of("dbname").unwrap_or(user)), "{text:?}");
        let is_hidden = |(name, value): (&String, &String)| name == "password" || !value.contains(SECRET);
        if ours.iter().all(is_hidden) {
            assert!(!format!("{whole:?}").contains(SECRET), "{text:?}: {whole:?}");
        }
    }
});

/// Why the relay may refuse what libpq takes. It also refuses what stands where a parameter then replaces it.
fn is_stated(error: &str, text: &str, theirs: &HashMap<String, Vec<u8>>) -> bool {
    let has_at = |name: &str| theirs.get(name).is_some_and(|value| value.contains(&b'@'));
    if error.contains("ends in the wrong place") {
        return text.matches('@').count() > 1 || ["host", "port", "dbname"].into_iter().any(has_at);
    }
    if error.contains("not UTF-8") {
        let encodes_more_than_ascii =
            |pair: &[u8]| pair[0] == b'%' && matches!(pair[1], b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F');
        return text.as_bytes().windows(2).any(encodes_more_than_ascii);
    }
    error.contains("is not supported")
}

static LIBPQ: LazyLock<Libpq> = LazyLock::new(Libpq::load);

/// As libpq-fe.h has it.
#[repr(C)]
struct Parameter {
    keyword: *const c_char,
    envvar: *const c_char,
    compiled: *const c_char,
    val: *const c_char,
    label: *const c_char,
    dispchar: *const c_char,
    dispsize: c_int,
}

struct Libpq {
    parse: unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> *mut Parameter,
    free: unsafe extern "C" fn(*mut Parameter),
    free_text: unsafe extern "C" fn(*mut c_void),
    version: unsafe extern "C" fn() -> c_int,
    /// Keeps the functions where they are.
    _library: libloading::Library,
}

impl Libpq {
    /// The library that every Postgres client brings; its headers are not needed.
    fn load() -> Self {
        // SAFETY: the functions have these types in every libpq of this name, and live as long as the library.
        unsafe {
            let library = libloading::Library::new("libpq.so.5").expect("libpq5 is installed");
            Self {
                parse: *library.get(b"PQconninfoParse\0").expect("a function of libpq"),
                free: *library.get(b"PQconninfoFree\0").expect("a function of libpq"),
                free_text: *library.get(b"PQfreemem\0").expect("a function of libpq"),
                version: *library.get(b"PQlibVersion\0").expect("a function of libpq"),
                _library: library,
            }
        }
    }

    fn version(&self) -> i32 {
        // SAFETY: takes nothing.
        unsafe { (self.version)() }
    }

    fn parse(&self, text: &str) -> Result<HashMap<String, Vec<u8>>, String> {
        let text = CString::new(text).expect("no zero byte");
        let mut message = null_mut();
        // SAFETY: libpq's array ends with a parameter that has no keyword, and both are given back to it.
        unsafe {
            let parameters = (self.parse)(text.as_ptr(), &raw mut message);
            if parameters.is_null() {
                let error = match message.is_null() {
                    true => "without a word".to_owned(),
                    false => CStr::from_ptr(message).to_string_lossy().into_owned(),
                };
                (self.free_text)(message.cast());
                return Err(error);
            }
            let mut given = HashMap::new();
            let mut at = parameters;
            while !(*at).keyword.is_null() {
                let Parameter { keyword, val, .. } = &*at;
                if !val.is_null() {
                    let name = CStr::from_ptr(*keyword).to_string_lossy().into_owned();
                    given.insert(name, CStr::from_ptr(*val).to_bytes().to_vec());
                }
                at = at.add(1);
            }
            (self.free)(parameters);
            Ok(given)
        }
    }
}
