//! What the TLS library does not tell of a server's certificate: the hash to bind to, the key of one of version 1, and
//! names that are no DNS names. Reads just as much DER as that needs.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const DNS_NAME: u8 = 0x82;
/// `[n] EXPLICIT`.
const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// `tls-server-end-point` of RFC 5929: the hash of the certificate, by the hash it was signed with. None where the
/// signature has no single hash (Ed25519), or one that nobody should use.
pub(super) fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let (oid, parameters) = signature_algorithm(certificate)?;
    let algorithm = if oid == RSA_PSS { hash_of_pss(parameters)? } else { hash_of(oid)? };
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

/// Those of version 1 have neither names nor any other extension.
pub(super) fn is_version_1(certificate: &[u8]) -> bool {
    to_be_signed(certificate).is_some_and(|body| element(explicit(0), body).is_none())
}

/// The algorithm of the certificate's key, as the content of its sequence, and the key.
pub(super) fn public_key(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, _) = element(SEQUENCE, from_public_key(certificate)?)?;
    let (algorithm, rest) = element(SEQUENCE, key)?;
    let (bits, _) = element(BIT_STRING, rest)?;
    // Whole bytes.
    Some((algorithm, bits.strip_prefix(&[0])?))
}

/// Whether one of its `dNSName`s is this text, also where the text is none that a host could have in DNS.
pub(super) fn has_dns_name(certificate: &[u8], text: &str) -> bool {
    let Some(mut names) = alternative_names(certificate) else { return false };
    while let Some((tag, name, rest)) = any_element(names) {
        if tag == DNS_NAME && name == text.as_bytes() {
            return true;
        }
        names = rest;
    }
    false
}

/// The content of the extension subjectAltName (2.5.29.17), a sequence of names.
fn alternative_names(certificate: &[u8]) -> Option<&[u8]> {
    let (_, mut rest) = element(SEQUENCE, from_public_key(certificate)?)?;
    let mut extensions = loop {
        let (tag, content, after) = any_element(rest)?;
        if tag == explicit(3) {
            break element(SEQUENCE, content)?.0;
        }
        rest = after;
    };
    while let Some((extension, others)) = element(SEQUENCE, extensions) {
        let (oid, value) = element(OBJECT_IDENTIFIER, extension)?;
        if oid == [0x55, 0x1d, 0x11] {
            let value = element(BOOLEAN, value).map_or(value, |(_, value)| value);
            return Some(element(SEQUENCE, element(OCTET_STRING, value)?.0)?.0);
        }
        extensions = others;
    }
    None
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { … }, signatureAlgorithm SEQUENCE { … }, … }`
fn to_be_signed(certificate: &[u8]) -> Option<&[u8]> {
    Some(element(SEQUENCE, element(SEQUENCE, certificate)?.0)?.0)
}

/// `tbsCertificate ::= SEQUENCE { version [0], serialNumber, signature, issuer, validity, subject,
/// subjectPublicKeyInfo, … }`, from there on.
fn from_public_key(certificate: &[u8]) -> Option<&[u8]> {
    let body = to_be_signed(certificate)?;
    let body = element(explicit(0), body).map_or(body, |(_, rest)| rest);
    let (_, mut rest) = element(INTEGER, body)?;
    for _ in ["signature", "issuer", "validity", "subject"] {
        (_, rest) = element(SEQUENCE, rest)?;
    }
    Some(rest)
}

/// The signature's algorithm, and its parameters.
fn signature_algorithm(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (certificate, _) = element(SEQUENCE, certificate)?;
    let (_, rest) = element(SEQUENCE, certificate)?;
    let (algorithm, _) = element(SEQUENCE, rest)?;
    element(OBJECT_IDENTIFIER, algorithm)
}

fn any_element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let &tag = bytes.first()?;
    element(tag, bytes).map(|(content, rest)| (tag, content, rest))
}

/// The content of the element that begins here, and what follows it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(first), rest),
        _ => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                length
                    .iter()
                    .try_fold(0_usize, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()))?,
                rest,
            )
        }
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// 1.2.840.113549.1.1.10.
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

/// `SEQUENCE { hashAlgorithm [0] SEQUENCE { OBJECT IDENTIFIER, … } DEFAULT sha1, … }`
fn hash_of_pss(parameters: &[u8]) -> Option<&'static Algorithm> {
    // 2.16.840.1.101.3.4.2, the hashes of SHA-2.
    const SHA_2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    let (parameters, _) = element(SEQUENCE, parameters)?;
    let Some((hash, _)) = element(explicit(0), parameters) else { return Some(&SHA256) };
    let (oid, _) = element(OBJECT_IDENTIFIER, element(SEQUENCE, hash)?.0)?;
    match oid.strip_prefix(SHA_2) {
        Some([1]) => Some(&SHA256),
        Some([2]) => Some(&SHA384),
        Some([3]) => Some(&SHA512),
        _ => None,
    }
}

fn hash_of(oid: &[u8]) -> Option<&'static Algorithm> {
    // 1.2.840.113549.1.1 (RSA with a hash) and 1.2.840.10045.4 (ECDSA).
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let rsa = oid.strip_prefix(RSA);
    let ecdsa = oid.strip_prefix(ECDSA);
    match (rsa, ecdsa) {
        // MD5 and SHA-1 are replaced by SHA-256.
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(&SHA256),
        (Some([12]), _) | (_, Some([3, 3])) => Some(&SHA384),
        (Some([13]), _) | (_, Some([3, 4])) => Some(&SHA512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate's outline: an empty body, the algorithm, an empty signature.
    fn outline(oid: &[u8]) -> Vec<u8> {
        let algorithm = [&[OBJECT_IDENTIFIER, oid.len() as u8], oid].concat();
        let body = [&[SEQUENCE, 0, SEQUENCE, algorithm.len() as u8][..], &algorithm, &[0x03, 1, 0]].concat();
        [&[SEQUENCE, 0x81, body.len() as u8][..], &body].concat()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let rsa = |last| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last];
        for (last, expected) in
            [(4, Some(32)), (5, Some(32)), (11, Some(32)), (12, Some(48)), (13, Some(64)), (10, None)]
        {
            let hash = end_point_hash(&outline(&rsa(last)));
            assert_eq!(hash.map(|hash| hash.len()), expected, "{last}");
        }
        let ecdsa = outline(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 3]);
        assert_eq!(end_point_hash(&ecdsa).map(|hash| hash.len()), Some(48));
    }

    #[test]
    fn what_is_cut_short_has_none() {
        let whole = outline(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 3]);
        for end in 0..whole.len() {
            assert_eq!(end_point_hash(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(end_point_hash(&[SEQUENCE, 0xff, 0xff]), None);
    }
}
