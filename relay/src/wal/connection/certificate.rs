//! `tls-server-end-point` of RFC 5929: the hash of the server's certificate, by the hash it was signed with. Reads just
//! as much DER as that needs.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// None where the signature has no single hash (Ed25519, RSA-PSS), or one that nobody should use.
pub(super) fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = hash_of(signature_algorithm(certificate)?)?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }`
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(SEQUENCE, certificate)?;
    let (_, rest) = element(SEQUENCE, certificate)?;
    let (algorithm, _) = element(SEQUENCE, rest)?;
    Some(element(OBJECT_IDENTIFIER, algorithm)?.0)
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
