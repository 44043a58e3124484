from vmwatch.cli import main

raise SystemExit(main())
