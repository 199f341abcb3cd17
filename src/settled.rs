//! What watched files hold, believed once two looks in a row have found the same.
//!
//! A file that is just being written or replaced can be a good file by chance, such as a chain of certificates whose second half is
//! still missing.

/// What is believed, and what the last look has found if that is something else.
#[derive(Debug)]
pub(crate) struct Settled<T> {
    believed: T,
    doubted: Option<T>,
}

impl<T: PartialEq> Settled<T> {
    /// Begins with what is in force.
    pub(crate) const fn new(believed: T) -> Self {
        Self { believed, doubted: None }
    }

    /// Takes in what a look has found. Returns it where it has changed and stands still.
    pub(crate) fn look(&mut self, found: T) -> Option<&T> {
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

    /// Takes in what is known to be complete.
    pub(crate) fn believe(&mut self, found: T) -> &T {
        (self.believed, self.doubted) = (found, None);
        &self.believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_believed_at_the_second_look_that_finds_it() {
        let mut settled = Settled::new('a');
        assert_eq!(settled.look('b'), None);
        assert_eq!(settled.look('c'), None, "it is still being written");
        assert_eq!(settled.look('c'), Some(&'c'));
        assert_eq!(settled.look('c'), None, "once is enough");
    }

    #[test]
    fn what_comes_back_in_between_is_no_change() {
        let mut settled = Settled::new('a');
        assert!(['b', 'a', 'b'].into_iter().all(|found| settled.look(found).is_none()));
        assert_eq!(settled.look('b'), Some(&'b'));
    }
}
