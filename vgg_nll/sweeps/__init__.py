"""Many runs under one name: which jobs there are, who does which, what became of them."""
