//! Which functions of which libraries are probed, and what their arguments mean. One table: another library is more rows.

use std::fmt;

use super::layout::{CALL_ENCLOSES, CALL_KNOWN_ONLY, CALL_OPENED, CALL_SERVES, NO_ARGUMENT};

/// A family of libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Library {
    /// OpenSSL's cryptography.
    Crypto,
    /// OpenSSL's TLS.
    Ssl,
    /// GnuTLS.
    GnuTls,
    /// libgcrypt, of GnuPG.
    Gcrypt,
    /// NSS, of Mozilla.
    Nss,
    /// A module of PKCS#11: a token's driver.
    Pkcs11,
}

impl Library {
    /// All of them: what the names of their files begin with, and functions that one has, whatever its file is called: a program may
    /// bring a library along under another name, or within itself.
    pub const ALL: [(Self, &'static str, &'static [&'static str]); 6] = [
        (Self::Crypto, "libcrypto.so", &["EVP_DigestSignFinal", "EVP_PKEY_free"]),
        (Self::Ssl, "libssl.so", &["SSL_do_handshake", "SSL_version"]),
        (Self::GnuTls, "libgnutls.so", &["gnutls_handshake", "gnutls_privkey_sign_data2"]),
        (Self::Gcrypt, "libgcrypt.so", &["gcry_pk_sign", "gcry_pk_decrypt"]),
        (Self::Nss, "libnss3.so", &["PK11_Sign", "SGN_End"]),
        (Self::Pkcs11, "libsofthsm2.so", &["C_GetFunctionList", "C_Sign"]),
    ];

    /// The library that a file of this name is.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, prefix, _)| name.starts_with(prefix)).map(|(library, ..)| library)
    }

    /// The functions by which it is known.
    #[must_use]
    pub fn marks(self) -> &'static [&'static str] {
        Self::ALL.into_iter().find(|(library, ..)| *library == self).map_or(&[], |(_, _, marks)| marks)
    }
}

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// A signature is made.
    Sign,
    /// One is checked.
    Verify,
    /// Something is encrypted to a public key.
    Encrypt,
    /// Something is decrypted with a private key, or a key unwrapped.
    Decrypt,
    /// A secret is agreed on.
    Derive,
    /// A TLS handshake ends well.
    Handshake,
}

impl Operation {
    /// Name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Derive => "derive",
            Self::Handshake => "handshake",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a probe on a function is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It uses a key.
    Uses(Operation),
    /// It returns a key that it read.
    Returns,
    /// It fills an object with a key that it read.
    Fills,
    /// It makes one object of another.
    Passes,
    /// It gives a reference back.
    Frees,
    /// It drives a handshake.
    Shakes,
}

/// A pointer to follow from an argument to the key, by the functions that follow it: the first that the library has says the offset.
pub type Hop = &'static [&'static str];

const CONTEXT_OF_DIGEST: Hop = &["EVP_MD_CTX_get_pkey_ctx", "EVP_MD_CTX_pkey_ctx"];
const KEY_OF_CONTEXT: Hop = &["EVP_PKEY_CTX_get0_pkey"];
/// Which type a key of OpenSSL has.
pub const TYPE_OF_KEY: Hop = &["EVP_PKEY_get_id", "EVP_PKEY_id"];
/// Version, resumed, server and state of a connection.
pub const OF_CONNECTION: [Hop; 4] = [&["SSL_version"], &["SSL_session_reused"], &["SSL_is_server"], &["SSL_get_state"]];

/// A row.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Where it is.
    pub library: Library,
    /// Its name.
    pub symbol: &'static str,
    /// What it is probed for.
    pub role: Role,
    /// Argument that holds the key, or leads to it.
    pub object: u8,
    /// Argument that is NULL where only a length is asked for; of a handshake what it returns when all is well; of one that passes a
    /// key on, where it comes from.
    pub other: u8,
    /// How the key is reached.
    pub hops: &'static [Hop],
    /// Flags of the kernel program.
    pub flags: u32,
}

impl Function {
    /// Whether it uses a private key, of which it is followed where it came from.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        matches!(self.role, Role::Uses(Sign | Decrypt)) && self.object != NO_ARGUMENT
    }
}

use Library::{Crypto, Gcrypt, GnuTls, Nss, Pkcs11, Ssl};
use Operation::{Decrypt, Derive, Encrypt, Sign, Verify};

const NO: u8 = NO_ARGUMENT;
const DIGEST: &[Hop] = &[CONTEXT_OF_DIGEST, KEY_OF_CONTEXT];
const CONTEXT: &[Hop] = &[KEY_OF_CONTEXT];
const ITSELF: &[Hop] = &[];
const MODULE: u32 = CALL_ENCLOSES | CALL_SERVES;

const fn uses(library: Library, symbol: &'static str, operation: Operation, object: u8, other: u8, hops: &'static [Hop], flags: u32) -> Function {
    Function { library, symbol, role: Role::Uses(operation), object, other, hops, flags }
}

const fn touches(library: Library, symbol: &'static str, role: Role, object: u8, other: u8) -> Function {
    Function { library, symbol, role, object, other, hops: ITSELF, flags: 0 }
}

/// All of them.
pub const FUNCTIONS: &[Function] = &[
    uses(Crypto, "EVP_DigestSign", Sign, 0, 1, DIGEST, 0),
    uses(Crypto, "EVP_DigestSignFinal", Sign, 0, 1, DIGEST, 0),
    uses(Crypto, "EVP_SignFinal", Sign, 3, NO, ITSELF, 0),
    uses(Crypto, "EVP_SignFinal_ex", Sign, 3, NO, ITSELF, 0),
    uses(Crypto, "EVP_PKEY_sign", Sign, 0, 1, CONTEXT, 0),
    uses(Crypto, "EVP_PKEY_decrypt", Decrypt, 0, 1, CONTEXT, 0),
    uses(Crypto, "EVP_PKEY_decapsulate", Decrypt, 0, 1, CONTEXT, CALL_KNOWN_ONLY),
    uses(Crypto, "EVP_PKEY_encrypt", Encrypt, 0, 1, CONTEXT, 0),
    // Each TLS handshake derives from keys of the moment.
    uses(Crypto, "EVP_PKEY_derive", Derive, 0, 1, CONTEXT, CALL_KNOWN_ONLY),
    uses(Crypto, "EVP_DigestVerify", Verify, 0, 1, DIGEST, 0),
    uses(Crypto, "EVP_DigestVerifyFinal", Verify, 0, 1, DIGEST, 0),
    uses(Crypto, "EVP_PKEY_verify", Verify, 0, 1, CONTEXT, 0),
    // OpenSSH of OpenSSL's older kind.
    uses(Crypto, "RSA_sign", Sign, 5, 3, ITSELF, 0),
    uses(Crypto, "RSA_private_encrypt", Sign, 3, 2, ITSELF, 0),
    uses(Crypto, "RSA_private_decrypt", Decrypt, 3, 2, ITSELF, 0),
    uses(Crypto, "ECDSA_do_sign", Sign, 2, NO, ITSELF, 0),
    uses(Crypto, "ECDSA_do_sign_ex", Sign, 4, NO, ITSELF, 0),
    uses(Crypto, "ECDSA_sign", Sign, 5, 3, ITSELF, 0),
    touches(Crypto, "PEM_read_bio_PrivateKey", Role::Returns, NO, NO),
    touches(Crypto, "PEM_read_bio_PrivateKey_ex", Role::Returns, NO, NO),
    touches(Crypto, "PEM_read_PrivateKey", Role::Returns, NO, NO),
    touches(Crypto, "PEM_read_PrivateKey_ex", Role::Returns, NO, NO),
    touches(Crypto, "d2i_PrivateKey", Role::Returns, NO, NO),
    touches(Crypto, "d2i_PrivateKey_ex", Role::Returns, NO, NO),
    touches(Crypto, "d2i_AutoPrivateKey", Role::Returns, NO, NO),
    touches(Crypto, "d2i_AutoPrivateKey_ex", Role::Returns, NO, NO),
    touches(Crypto, "d2i_PrivateKey_bio", Role::Returns, NO, NO),
    touches(Crypto, "EVP_PKCS82PKEY", Role::Returns, NO, NO),
    touches(Crypto, "EVP_PKCS82PKEY_ex", Role::Returns, NO, NO),
    touches(Crypto, "OSSL_STORE_INFO_get1_PKEY", Role::Returns, NO, NO),
    touches(Crypto, "OSSL_STORE_INFO_get0_PKEY", Role::Returns, NO, NO),
    touches(Crypto, "PEM_read_bio_RSAPrivateKey", Role::Returns, NO, NO),
    touches(Crypto, "PEM_read_bio_ECPrivateKey", Role::Returns, NO, NO),
    touches(Crypto, "EVP_PKEY_new_raw_private_key", Role::Returns, NO, NO),
    // With the private number, argument 3 or 1: OpenSSH reads its own format itself.
    touches(Crypto, "RSA_set0_key", Role::Fills, 0, 3),
    touches(Crypto, "EC_KEY_set_private_key", Role::Fills, 0, 1),
    touches(Crypto, "EVP_PKEY_set1_RSA", Role::Passes, 0, 1),
    touches(Crypto, "EVP_PKEY_set1_EC_KEY", Role::Passes, 0, 1),
    touches(Crypto, "EVP_PKEY_assign", Role::Passes, 0, 2),
    touches(Crypto, "EVP_PKEY_free", Role::Frees, 0, NO),
    touches(Ssl, "SSL_do_handshake", Role::Shakes, 0, 1),
    uses(GnuTls, "gnutls_privkey_sign_data2", Sign, 0, NO, ITSELF, CALL_ENCLOSES),
    uses(GnuTls, "gnutls_privkey_sign_data", Sign, 0, NO, ITSELF, CALL_ENCLOSES),
    uses(GnuTls, "gnutls_privkey_sign_hash2", Sign, 0, NO, ITSELF, CALL_ENCLOSES),
    uses(GnuTls, "gnutls_privkey_sign_hash", Sign, 0, NO, ITSELF, CALL_ENCLOSES),
    uses(GnuTls, "gnutls_privkey_decrypt_data", Decrypt, 0, NO, ITSELF, CALL_ENCLOSES),
    uses(GnuTls, "gnutls_privkey_decrypt_data2", Decrypt, 0, NO, ITSELF, CALL_ENCLOSES),
    uses(GnuTls, "gnutls_pubkey_verify_data2", Verify, 0, NO, ITSELF, 0),
    uses(GnuTls, "gnutls_pubkey_verify_hash2", Verify, 0, NO, ITSELF, 0),
    touches(GnuTls, "gnutls_x509_privkey_import", Role::Fills, 0, NO),
    touches(GnuTls, "gnutls_x509_privkey_import2", Role::Fills, 0, NO),
    touches(GnuTls, "gnutls_privkey_import_x509_raw", Role::Fills, 0, NO),
    touches(GnuTls, "gnutls_privkey_import_x509", Role::Passes, 0, 1),
    touches(GnuTls, "gnutls_handshake", Role::Shakes, 0, 0),
    // A key is read anew for each of these.
    uses(Gcrypt, "gcry_pk_sign", Sign, NO, NO, ITSELF, CALL_OPENED),
    uses(Gcrypt, "gcry_pk_hash_sign", Sign, NO, NO, ITSELF, CALL_OPENED),
    uses(Gcrypt, "gcry_pk_decrypt", Decrypt, NO, NO, ITSELF, CALL_OPENED),
    uses(Gcrypt, "gcry_pk_encrypt", Encrypt, NO, NO, ITSELF, 0),
    uses(Gcrypt, "gcry_pk_verify", Verify, NO, NO, ITSELF, 0),
    // Its keys lie in databases of its own.
    uses(Nss, "PK11_Sign", Sign, NO, NO, ITSELF, CALL_ENCLOSES),
    uses(Nss, "PK11_SignWithMechanism", Sign, NO, NO, ITSELF, CALL_ENCLOSES),
    uses(Nss, "SGN_End", Sign, NO, NO, ITSELF, CALL_ENCLOSES),
    uses(Nss, "PK11_PrivDecrypt", Decrypt, NO, NO, ITSELF, CALL_ENCLOSES),
    uses(Nss, "PK11_PrivDecryptPKCS1", Decrypt, NO, NO, ITSELF, CALL_ENCLOSES),
    uses(Nss, "PK11_PubUnwrapSymKey", Decrypt, NO, NO, ITSELF, CALL_ENCLOSES),
    uses(Nss, "PK11_PubEncrypt", Encrypt, NO, NO, ITSELF, CALL_ENCLOSES),
    uses(Nss, "PK11_PubEncryptPKCS1", Encrypt, NO, NO, ITSELF, CALL_ENCLOSES),
    uses(Nss, "PK11_Verify", Verify, NO, NO, ITSELF, CALL_ENCLOSES),
    uses(Nss, "PK11_VerifyWithMechanism", Verify, NO, NO, ITSELF, CALL_ENCLOSES),
    // Its keys lie in a token.
    uses(Pkcs11, "C_Sign", Sign, NO, 3, ITSELF, MODULE),
    uses(Pkcs11, "C_SignFinal", Sign, NO, 1, ITSELF, MODULE),
    uses(Pkcs11, "C_SignRecover", Sign, NO, 3, ITSELF, MODULE),
    uses(Pkcs11, "C_Decrypt", Decrypt, NO, 3, ITSELF, MODULE),
    uses(Pkcs11, "C_DecryptFinal", Decrypt, NO, 1, ITSELF, MODULE),
    uses(Pkcs11, "C_UnwrapKey", Decrypt, NO, NO, ITSELF, MODULE),
    uses(Pkcs11, "C_DeriveKey", Derive, NO, NO, ITSELF, MODULE),
    uses(Pkcs11, "C_Encrypt", Encrypt, NO, 3, ITSELF, MODULE),
    uses(Pkcs11, "C_EncryptFinal", Encrypt, NO, 1, ITSELF, MODULE),
    uses(Pkcs11, "C_WrapKey", Encrypt, NO, 4, ITSELF, MODULE),
    uses(Pkcs11, "C_Verify", Verify, NO, NO, ITSELF, MODULE),
    uses(Pkcs11, "C_VerifyFinal", Verify, NO, NO, ITSELF, MODULE),
];
