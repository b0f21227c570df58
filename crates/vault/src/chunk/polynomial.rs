//! Polynomials over GF(2), one bit a coefficient: the modulus of a vault's rolling hash.

use crate::crypto;
use crate::error::Result;

/// A polynomial of a degree up to 63; bit n is the coefficient of x^n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polynomial(u64);

/// The degree that restic uses: the hash of 53 bits and one byte more fit in a word.
pub const DEGREE: u32 = 53;

impl Polynomial {
    /// The polynomial with these coefficients.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// A random irreducible one of degree [`DEGREE`]. One in 27 or so is irreducible, so this takes microseconds.
    ///
    /// # Errors
    /// The kernel gives no random numbers.
    pub fn random() -> Result<Self> {
        loop {
            let mut bytes = [0; 8];
            crypto::random(&mut bytes)?;
            let bits = u64::from_le_bytes(bytes) & ((1 << DEGREE) - 1);
            let candidate = Self(bits | (1 << DEGREE) | 1);
            if candidate.is_irreducible() {
                return Ok(candidate);
            }
        }
    }

    /// Its coefficients.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Its degree; none for zero.
    #[must_use]
    pub const fn degree(self) -> Option<u32> {
        self.0.checked_ilog2()
    }

    /// The rest of this many coefficients divided by this polynomial, which is not zero.
    #[must_use]
    pub const fn rest_of(self, mut dividend: u128) -> u64 {
        let degree = 63 - self.0.leading_zeros();
        while let Some(high) = dividend.checked_ilog2() {
            if high < degree {
                break;
            }
            dividend ^= (self.0 as u128) << (high - degree);
        }
        dividend as u64
    }

    fn multiply(self, a: u64, b: u64) -> u64 {
        let mut product = 0u128;
        for place in 0..64 {
            if b >> place & 1 == 1 {
                product ^= u128::from(a) << place;
            }
        }
        self.rest_of(product)
    }

    /// x to the power of 2^`doublings`, modulo this.
    fn power_of_x(self, doublings: u32) -> u64 {
        (0..doublings).fold(self.rest_of(2), |power, _| self.multiply(power, power))
    }

    /// Whether no two polynomials of lower degree have this product. Rabin's test: x^(2^n) is x modulo this, and for each
    /// prime factor p of the degree n, x^(2^(n/p)) - x has no factor in common with it.
    #[must_use]
    pub fn is_irreducible(self) -> bool {
        let Some(degree) = self.degree().filter(|degree| *degree > 0) else {
            return false;
        };
        if self.power_of_x(degree) != self.rest_of(2) {
            return false;
        }
        let prime = |number: &u32| (2..*number).all(|factor| !number.is_multiple_of(factor));
        (2..=degree).filter(|factor| degree.is_multiple_of(*factor)).filter(prime).all(|factor| {
            let difference = self.power_of_x(degree / factor) ^ self.rest_of(2);
            common_factor(self.0, difference) == 1
        })
    }
}

fn common_factor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, Polynomial(b).rest_of(a.into()));
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All products of two factors, up to degree 10, against the test.
    #[test]
    fn irreducible_is_what_is_no_product() {
        let mut product = vec![false; 1 << 11];
        for a in 2u64..1 << 10 {
            for b in 2u64..1 << 10 {
                let mut all = 0u64;
                for place in 0..10 {
                    all ^= if b >> place & 1 == 1 { a << place } else { 0 };
                }
                if let Some(reached) = product.get_mut(all as usize) {
                    *reached = true;
                }
            }
        }
        for bits in 2u64..1 << 11 {
            assert_eq!(Polynomial(bits).is_irreducible(), !product[bits as usize], "{bits:b}");
        }
        assert!(!Polynomial(0).is_irreducible() && !Polynomial(1).is_irreducible());
    }

    #[test]
    fn random_ones_are_irreducible_and_of_degree_53() {
        let [a, b] = [Polynomial::random().unwrap(), Polynomial::random().unwrap()];
        assert_ne!(a, b);
        for polynomial in [a, b, Polynomial::new(0x3D_A335_8B4D_C173)] {
            assert_eq!(polynomial.degree(), Some(DEGREE));
            assert!(polynomial.is_irreducible());
        }
        assert!(!Polynomial::new(0x3D_A335_8B4D_C173 ^ 1).is_irreducible(), "x divides it");
    }
}
