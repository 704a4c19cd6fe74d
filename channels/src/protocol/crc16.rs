//! The checksum that Wialon and Teltonika share: CRC-16/ARC, also called CRC-16/IBM.

/// Reflected polynomial 0xa001, nothing before and nothing after.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut remainder = at as u16;
        let mut bit = 0;
        while bit < 8 {
            remainder = (remainder >> 1) ^ if remainder & 1 == 1 { 0xa001 } else { 0 };
            bit += 1;
        }
        table[at] = remainder;
        at += 1;
    }
    table
};

/// The checksum of these bytes.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        assert_eq!(crc16(b"123456789"), 0xbb3d);
        assert_eq!(crc16(b""), 0);
    }
}
