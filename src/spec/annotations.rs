//! Annotations of a bundle that capsid itself reads: what the specification has
//! no field for.

use std::collections::BTreeMap;

use oci_spec::runtime::Spec;

/// `true`: the container's first process stays as its init.
pub const INIT: &str = "dev.capsid.init";

/// The value of an annotation, if the bundle has it.
pub fn value<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
    let all = spec.annotations().as_ref()?;
    all.get(name).map(String::as_str)
}

/// All of them.
pub fn all(spec: &Spec) -> BTreeMap<String, String> {
    let all = spec.annotations().iter().flatten();
    all.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Whether the container's first process stays as its init.
pub fn has_init(spec: &Spec) -> bool {
    value(spec, INIT) == Some("true")
}

/// The digest that the root file system must have.
pub const DIGEST_ROOTFS: &str = "dev.capsid.digest.rootfs";

/// TCP ports that the program may bind, with commas in between.
pub const TCP_BIND: &str = "dev.capsid.tcp.bind";

/// TCP ports that the program may connect to, with commas in between.
pub const TCP_CONNECT: &str = "dev.capsid.tcp.connect";

/// The ports of an annotation; none without it, which means any.
pub fn ports(spec: &Spec, name: &str) -> Option<Result<Vec<u16>, String>> {
    let list = value(spec, name)?;
    let words = list.split(',').map(str::trim);
    let ports = words.filter(|word| !word.is_empty() || list.contains(','));
    Some(ports.map(port).collect())
}

fn port(word: &str) -> Result<u16, String> {
    // Digits only: Rust itself would take a sign.
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let number = word.parse().ok().filter(|_| digits);
    number.ok_or_else(|| format!("{word:?} is no port: write numbers with commas in between"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers() {
        let of = |list: &str| {
            let text =
                format!(r#"{{"ociVersion":"1.2.0","annotations":{{"{TCP_BIND}":"{list}"}}}}"#);
            ports(&serde_json::from_str(&text).unwrap(), TCP_BIND).unwrap()
        };
        assert_eq!(of(""), Ok(vec![]));
        assert_eq!(of("443"), Ok(vec![443]));
        assert_eq!(of("0, 80,443"), Ok(vec![0, 80, 443]));
        for wrong in ["80,", ",", "65536", "-1", "+1", "http", "1-2"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(ports(&Spec::default(), TCP_BIND).is_none());
    }
}
