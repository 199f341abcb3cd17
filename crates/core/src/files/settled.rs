//! The content of watched files, accepted once two checks in a row find the same.
//!
//! A file that is just being written or replaced can look valid by chance, such as a certificate chain whose second half is still missing.

/// The accepted value, and a different value that the last check found.
#[derive(Debug)]
pub struct Settled<T> {
    believed: T,
    doubted: Option<T>,
}

impl<T: PartialEq> Settled<T> {
    /// Starts with the value in force.
    pub const fn new(believed: T) -> Self {
        Self { believed, doubted: None }
    }

    /// Records the result of a check. Returns it if it has changed and is stable.
    pub fn look(&mut self, found: T) -> Option<&T> {
        if found == self.believed {
            self.doubted = None;
            return None;
        }
        if self.doubted.as_ref() == Some(&found) {
            return Some(self.believe(found));
        }
        self.doubted = Some(found);
        None
    }

    /// Accepts a value that is known to be complete.
    pub fn believe(&mut self, found: T) -> &T {
        (self.believed, self.doubted) = (found, None);
        &self.believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_accepted_at_the_second_check_that_finds_it() {
        let mut settled = Settled::new('a');
        assert_eq!(settled.look('b'), None);
        assert_eq!(settled.look('c'), None, "it is still being written");
        assert_eq!(settled.look('c'), Some(&'c'));
        assert_eq!(settled.look('c'), None, "it is reported once");
    }

    #[test]
    fn a_change_that_is_reverted_in_between_is_not_accepted() {
        let mut settled = Settled::new('a');
        assert!(['b', 'a', 'b'].into_iter().all(|found| settled.look(found).is_none()));
        assert_eq!(settled.look('b'), Some(&'b'));
    }
}
