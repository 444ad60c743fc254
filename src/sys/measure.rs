//! What the kernel knows of an open file besides its bytes.

use std::os::fd::{AsRawFd, BorrowedFd};

use syscalls::Sysno;

use super::{Result, call, reg};

/// A file's fs-verity digest and capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The SHA-256 digest that the kernel keeps the file to, if it does.
    pub verity: Option<[u8; 32]>,
    /// The attribute `security.capability`; nothing where there is none.
    pub capability: Vec<u8>,
}

/// Asks for both.
pub fn measure(file: BorrowedFd<'_>) -> Result<Measured> {
    Ok(Measured {
        verity: verity(file)?,
        capability: capability(file)?,
    })
}

/// `FS_IOC_MEASURE_VERITY`: `_IOWR('f', 134, struct fsverity_digest)`.
const MEASURE_VERITY: usize = 0xc004_6686;

/// `FS_VERITY_HASH_ALG_SHA256`.
const SHA256: u16 = 1;

fn verity(file: BorrowedFd<'_>) -> Result<Option<[u8; 32]>> {
    /// `struct fsverity_digest` with room for a SHA-256.
    #[repr(C)]
    struct Request {
        algorithm: u16,
        size: u16,
        digest: [u8; 32],
    }
    let mut request = Request {
        algorithm: 0,
        size: 32,
        digest: [0; 32],
    };
    let file = reg(file.as_raw_fd());
    // SAFETY: the request says how many bytes follow its head, and has them.
    let outcome = unsafe {
        call(
            Sysno::ioctl,
            [file, MEASURE_VERITY, &raw mut request as usize, 0, 0, 0],
        )
    };
    match outcome {
        Ok(_) => Ok((request.algorithm == SHA256).then_some(request.digest)),
        // No fs-verity on this file, in this file system or in this kernel; or a longer digest.
        Err(failure)
            if matches!(
                failure.errno,
                libc::ENODATA | libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::EOVERFLOW
            ) =>
        {
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

fn capability(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    // struct vfs_ns_cap_data has 24 bytes.
    let mut buffer = [0u8; 64];
    let name = c"security.capability";
    // SAFETY: the name ends with NUL; pointer and length are of one live, writable buffer.
    let outcome = unsafe {
        call(
            Sysno::fgetxattr,
            [
                reg(file.as_raw_fd()),
                name.as_ptr() as usize,
                buffer.as_mut_ptr() as usize,
                buffer.len(),
                0,
                0,
            ],
        )
    };
    match outcome {
        Ok(length) => Ok(buffer[..length.min(buffer.len())].to_vec()),
        Err(failure) if matches!(failure.errno, libc::ENODATA | libc::EOPNOTSUPP) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}
