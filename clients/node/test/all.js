/** All tests, one after another: some of them end the calls that wait, whosever they are. */

import './calls.test.js';
import './retry.test.js';
import './gatherer.test.js';
import './readme.test.js';
